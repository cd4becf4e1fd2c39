"""A transcript as OpenAI's bodies and events."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.requests.openai_form import TranscriptionRequest
from whisper_server.api.responses import subtitles
from whisper_server.api.responses.whisper_json import segment_members
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript

# The encoder has so many positions for a second of sound; a streamed answer's usage counts them as audio tokens.
_AUDIO_TOKENS_PER_SECOND = 50


def render_answer(transcript: Transcript, asked: TranscriptionRequest) -> Response:
    if asked.response_format in _FILES:
        media_type, write = _FILES[asked.response_format]
        return PlainTextResponse(write(transcript, asked), media_type=media_type)
    return JSONResponse(
        _verbose(transcript, asked) if asked.response_format == "verbose_json" else _brief(transcript, asked)
    )


def logprobs(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    scores = [score for segment in segments for score in segment.scores or ()]
    return [{"token": s.text, "bytes": list(s.content), "logprob": s.log_probability} for s in scores]


def languages(transcript: Transcript, asked: TranscriptionRequest) -> list[dict[str, str]]:
    return [{"code": _language(transcript, asked)}]


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


def _brief(transcript: Transcript, asked: TranscriptionRequest) -> dict[str, Any]:
    if asked.task == "translate":
        return {"text": transcript.text.strip()}
    return {
        "text": transcript.text.strip(),
        **({"logprobs": logprobs(transcript.segments)} if asked.handling["scores"] else {}),
        "usage": _duration_usage(transcript),
        "languages": languages(transcript, asked),
    }


def _verbose(transcript: Transcript, asked: TranscriptionRequest) -> dict[str, Any]:
    segments = [_segment(i, segment) for i, segment in enumerate(transcript.segments)]
    words = [_word(word) for segment in transcript.segments for word in segment.words or ()]
    return {
        "task": asked.task,
        "language": NAMES[_language(transcript, asked)],
        "duration": transcript.duration,
        "text": transcript.text.strip(),
        **({"words": words} if asked.words else {}),
        **({"segments": segments} if asked.segments else {}),
        **({} if asked.task == "translate" else {"usage": _duration_usage(transcript)}),
    }


def _duration_usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": transcript.duration}


def _language(transcript: Transcript, asked: TranscriptionRequest) -> str:
    """The language of the text, which is English when it is a translation."""
    return "en" if asked.task == "translate" else transcript.language


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    return {
        **segment_members(index, segment),
        "avg_logprob": _finite(segment.avg_logprob, -1000.0, 0.0),
        "compression_ratio": _finite(segment.compression_ratio, 0.0, 1e6),
        "no_speech_prob": _finite(segment.no_speech_prob, 0.0, 1.0),
    }


def _word(word: Word) -> dict[str, Any]:
    times = {"start": word.start, "end": word.end}
    return {"word": word.text.strip(), **times, "probability": _finite(word.probability, 0.0, 1.0)}


def _finite(value: float, low: float, high: float) -> float:
    """JSON has no NaN and no infinity, and OpenAI's clients want a number."""
    return low if math.isnan(value) else min(max(value, low), high)


_FILES: dict[str, tuple[str, Callable[[Transcript, TranscriptionRequest], str]]] = {
    "text": ("text/plain", lambda transcript, _: transcript.text.strip() + "\n"),
    "srt": (
        "application/x-subrip; charset=utf-8",
        lambda transcript, asked: subtitles.srt(transcript.segments, asked.layout),
    ),
    "vtt": ("text/vtt", lambda transcript, asked: subtitles.vtt(transcript.segments, asked.layout)),
}
