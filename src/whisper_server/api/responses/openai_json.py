"""Transcripts as OpenAI's response bodies, and the parts that its events share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.requests.openai_form import TranscriptionRequest
from whisper_server.api.responses.whisper_json import render_file, segment_fields
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript

# The positions of Whisper's encoder for one second; the usage of a stream counts them as audio tokens.
_AUDIO_TOKENS_PER_SECOND = 50


def render_transcript(transcript: Transcript, request: TranscriptionRequest) -> Response:
    match request.response_format:
        case "json":
            return JSONResponse(_json(transcript, request))
        case "verbose_json":
            return JSONResponse(_verbose_json(transcript, request))
        case "text":
            return PlainTextResponse(transcript.text.strip() + "\n")
        case response_format:
            return render_file(transcript.segments, response_format, request.layout)


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
        "usage": {"type": "duration", "seconds": transcript.duration},
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
        **({} if request.task == "translate" else {"usage": {"type": "duration", "seconds": transcript.duration}}),
    }


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
