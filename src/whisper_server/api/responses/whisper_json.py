"""Transcripts as the response bodies of /recognise, as openai-whisper writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.requests.options import Options, SubtitleLayout
from whisper_server.api.responses import subtitles
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript


def render(transcript: Transcript, options: Options, *, detail: bool) -> Response:
    """Render as `options.rendering` says; `detail`, whether the JSON has segments, is the server's default."""
    rendering = dict(options.rendering)
    response_format = rendering.pop("response_format", "json")
    detail = rendering.pop("detail", detail)
    if response_format != "json":
        return render_file(transcript.segments, response_format, SubtitleLayout(**rendering))
    return JSONResponse({"transcription": transcript_to_json(transcript, detail=detail)})


def transcript_to_json(transcript: Transcript, *, detail: bool = True) -> dict[str, Any]:
    """Return what openai-whisper's `transcribe()` returns; `detail` includes the segments."""
    result: dict[str, Any] = {"text": transcript.text}
    if detail:
        result["segments"] = [segment_to_json(i, segment) for i, segment in enumerate(transcript.segments)]
    return {**result, "language": transcript.language}


def render_file(segments: Sequence[Segment], response_format: str, layout: SubtitleLayout) -> Response:
    media_type, write = _FILE_FORMATS[response_format]
    return PlainTextResponse(write(segments, layout), media_type=media_type)


def file_text(segments: Sequence[Segment], response_format: str) -> str:
    """Return the text of the file that `render_file` responds with."""
    _, write = _FILE_FORMATS[response_format]
    return write(segments, SubtitleLayout())


def segment_to_json(index: int, segment: Segment) -> dict[str, Any]:
    """Omit `words` if there are none, as openai-whisper does."""
    words = {} if segment.words is None else {"words": [_word(word) for word in segment.words]}
    scores = {"avg_logprob": finite(segment.avg_logprob), "no_speech_prob": finite(segment.no_speech_prob)}
    return {**segment_fields(index, segment), **scores, **words}


def segment_fields(index: int, segment: Segment) -> dict[str, Any]:
    """Return the fields of a segment in openai-whisper's order; the scores may not be finite."""
    return {
        "id": index,
        "seek": segment.seek,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}


def finite(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


_FILE_FORMATS: dict[str, tuple[str, Callable[[Sequence[Segment], SubtitleLayout], str]]] = {
    "text": ("text/plain", lambda segments, _: subtitles.txt(segments)),
    "tsv": ("text/tab-separated-values", lambda segments, _: subtitles.tsv(segments)),
    "srt": ("application/x-subrip; charset=utf-8", subtitles.srt),
    "vtt": ("text/vtt", subtitles.vtt),
}
