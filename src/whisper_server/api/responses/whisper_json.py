"""A transcript as the body that a client asked for."""

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
    """Return the response for `options.rendering`; `detail` is the server's default."""
    wanted = dict(options.rendering)
    response_format = wanted.pop("response_format", "json")
    detail = wanted.pop("detail", detail)
    if response_format == "json":
        return JSONResponse({"transcription": as_json(transcript, detail=detail)})
    media_type, write = _FILES[response_format]
    return PlainTextResponse(write(transcript.segments, SubtitleLayout(**wanted)), media_type=media_type)


def as_json(transcript: Transcript, *, detail: bool) -> dict[str, Any]:
    """Return what openai-whisper's `transcribe()` returns, or that without segments."""
    segments = [segment_as_json(i, segment) for i, segment in enumerate(transcript.segments)]
    return {
        "text": transcript.text,
        **({"segments": segments} if detail else {}),
        "language": transcript.language,
    }


def segment_as_json(index: int, segment: Segment) -> dict[str, Any]:
    """Like openai-whisper, leave `words` out where there are none."""
    words = {} if segment.words is None else {"words": [_word(word) for word in segment.words]}
    scores = {"avg_logprob": _finite(segment.avg_logprob), "no_speech_prob": _finite(segment.no_speech_prob)}
    return {**segment_members(index, segment), **scores, **words}


def segment_members(index: int, segment: Segment) -> dict[str, Any]:
    """What every shape of a segment has, in openai-whisper's order; scores may be no finite numbers yet."""
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


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


_FILES: dict[str, tuple[str, Callable[[Sequence[Segment], SubtitleLayout], str]]] = {
    "text": ("text/plain", lambda segments, _: subtitles.txt(segments)),
    "tsv": ("text/tab-separated-values", lambda segments, _: subtitles.tsv(segments)),
    "srt": ("application/x-subrip; charset=utf-8", subtitles.srt),
    "vtt": ("text/vtt", subtitles.vtt),
}
