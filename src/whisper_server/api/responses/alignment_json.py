"""Alignments as response bodies, whose JSON is like that of OpenAI's transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.alignment_form import AlignmentRequest
from whisper_server.api.responses.whisper_json import render_file
from whisper_server.inference.alignment.aligner import Alignment, TimedSegment, TimedWord
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.segments import Segment, Word


def render_alignment(alignment: Alignment, request: AlignmentRequest) -> Response:
    if request.response_format == "json":
        return JSONResponse(_json(alignment))
    cues = list(_subtitle_segments(alignment.segments))
    return render_file(cues, request.response_format, request.layout)


def _json(alignment: Alignment) -> dict[str, Any]:
    return {
        "task": "align",
        "language": NAMES[alignment.language],
        "duration": alignment.duration,
        "text": alignment.text,
        "words": [_word(word) for segment in alignment.segments for word in segment.words],
        "segments": [_segment(number, segment) for number, segment in enumerate(alignment.segments)],
        "usage": {"type": "duration", "seconds": alignment.duration},
    }


def _word(word: TimedWord) -> dict[str, Any]:
    return {"word": word.text.strip(), "start": word.start, "end": word.end, "probability": word.probability}


def _segment(number: int, segment: TimedSegment) -> dict[str, Any]:
    times = {"start": segment.start, "end": segment.end}
    return {"id": number, **times, "text": segment.text, "probability": segment.probability}


def _subtitle_segments(segments: Sequence[TimedSegment]) -> Iterator[Segment]:
    """Yield the segments of which at least a word is spoken."""
    for segment in segments:
        if segment.start is not None and segment.end is not None:
            words = list(_with_times(segment.words, segment.start))
            yield Segment(
                seek=0,
                start=segment.start,
                end=segment.end,
                text=segment.text,
                tokens=[],
                avg_logprob=0.0,
                compression_ratio=0.0,
                no_speech_prob=0.0,
                temperature=0.0,
                words=words,
            )


def _with_times(words: Sequence[TimedWord], start: float) -> Iterator[Word]:
    """Show words that are not spoken with those before them. An arrow would end the text of a cue."""
    end = start
    for word in words:
        start, end = (end, end) if word.start is None or word.end is None else (word.start, word.end)
        yield Word(word.text.replace("-->", "->"), start, end, word.probability)
