"""Transcripts as OpenAI's response bodies, and the parts that its events share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.requests.openai_form import TranscriptionRequest
from whisper_server.api.responses import subtitles
from whisper_server.api.responses.whisper_json import segment_fields
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript

# The positions of Whisper's encoder for one second; the usage of a stream counts them as audio tokens.
_AUDIO_TOKENS_PER_SECOND = 50


def render_transcript(transcript: Transcript, request: TranscriptionRequest) -> Response:
    if request.response_format in _TEXT_FORMATS:
        media_type, write = _TEXT_FORMATS[request.response_format]
        return PlainTextResponse(write(transcript, request), media_type=media_type)
    to_json = _verbose_json if request.response_format == "verbose_json" else _json
    return JSONResponse(to_json(transcript, request))


def logprobs(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    scores = [score for segment in segments for score in segment.scores or ()]
    return [{"token": s.text, "bytes": list(s.content), "logprob": s.log_probability} for s in scores]


def languages(transcript: Transcript, request: TranscriptionRequest) -> list[dict[str, str]]:
    return [{"code": _language(transcript, request)}]


def token_usage(transcript: Transcript) -> dict[str, Any]:
    audio, text = math.ceil(transcript.duration * _AUDIO_TOKENS_PER_SECOND), transcript.prompt_tokens
    output = sum(len(segment.tokens) for segment in transcript.segments)
    return {
        "type": "tokens",
        "input_tokens": audio + text,
        "input_token_details": {"audio_tokens": audio, "text_tokens": text},
        "output_tokens": output,
        "total_tokens": audio + text + output,
    }


def _json(transcript: Transcript, request: TranscriptionRequest) -> dict[str, Any]:
    if request.task == "translate":
        return {"text": transcript.text.strip()}
    return {
        "text": transcript.text.strip(),
        **({"logprobs": logprobs(transcript.segments)} if request.logprobs else {}),
        "usage": _duration_usage(transcript),
        "languages": languages(transcript, request),
    }


def _verbose_json(transcript: Transcript, request: TranscriptionRequest) -> dict[str, Any]:
    segments = [_segment(i, segment) for i, segment in enumerate(transcript.segments)]
    words = [_word(word) for segment in transcript.segments for word in segment.words or ()]
    return {
        "task": request.task,
        "language": NAMES[_language(transcript, request)],
        "duration": transcript.duration,
        "text": transcript.text.strip(),
        **({"words": words} if request.words else {}),
        **({"segments": segments} if request.segments else {}),
        **({} if request.task == "translate" else {"usage": _duration_usage(transcript)}),
    }


def _duration_usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": transcript.duration}


def _language(transcript: Transcript, request: TranscriptionRequest) -> str:
    """Return the language of the text; a translation is in English."""
    return "en" if request.task == "translate" else transcript.language


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    return {
        **segment_fields(index, segment),
        "avg_logprob": _finite(segment.avg_logprob, -1000.0, 0.0),
        "compression_ratio": _finite(segment.compression_ratio, 0.0, 1e6),
        "no_speech_prob": _finite(segment.no_speech_prob, 0.0, 1.0),
    }


def _word(word: Word) -> dict[str, Any]:
    times = {"start": word.start, "end": word.end}
    return {"word": word.text.strip(), **times, "probability": _finite(word.probability, 0.0, 1.0)}


def _finite(value: float, low: float, high: float) -> float:
    """Clamp the value: JSON has no NaN and no infinity, and OpenAI's clients require a number."""
    return low if math.isnan(value) else min(max(value, low), high)


_TEXT_FORMATS: dict[str, tuple[str, Callable[[Transcript, TranscriptionRequest], str]]] = {
    "text": ("text/plain", lambda transcript, _: transcript.text.strip() + "\n"),
    "srt": (
        "application/x-subrip; charset=utf-8",
        lambda transcript, request: subtitles.srt(transcript.segments, request.layout),
    ),
    "vtt": ("text/vtt", lambda transcript, request: subtitles.vtt(transcript.segments, request.layout)),
}
