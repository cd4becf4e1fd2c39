"""The server events of OpenAI's Realtime API, as JSON objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from whisper_server.api.errors import openai_error
from whisper_server.api.streaming.common import join_words, round_seconds
from whisper_server.api.streaming.session_runner import Message
from whisper_server.core.errors import WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Final

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:24]}"


def server_event(type: str, **fields: Any) -> Message:
    return {"type": type, "event_id": new_id("event"), **fields}


def error_event(exc: WhisperServerError, event_id: Any = None) -> Message:
    """`event_id` is that of the client event that caused the error, if any."""
    return server_event("error", error={**openai_error(exc)["error"], "event_id": event_id})


def speech_started(item_id: str, time: float) -> Message:
    milliseconds = round(time * 1000)
    return server_event("input_audio_buffer.speech_started", audio_start_ms=milliseconds, item_id=item_id)


def speech_stopped(item_id: str, time: float) -> Message:
    milliseconds = round(time * 1000)
    return server_event("input_audio_buffer.speech_stopped", audio_end_ms=milliseconds, item_id=item_id)


def committed(item_id: str, previous_id: str | None, *, beta: bool) -> Iterator[Message]:
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    yield server_event("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous_id)
    for change in ("created",) if beta else ("added", "done"):
        yield server_event(f"conversation.item.{change}", item=item, previous_item_id=previous_id)


def delta(item_id: str, words: Sequence[Word], *, first: bool, logprobs: bool) -> Message:
    text = "".join(word.text for word in words)
    return server_event(
        f"{_TRANSCRIPTION}.delta",
        item_id=item_id,
        content_index=0,
        delta=text.lstrip() if first else text,
        **_logprobs(words, logprobs),
    )


def completed(item_id: str, event: Final, seconds: float, *, logprobs: bool) -> Message:
    return server_event(
        f"{_TRANSCRIPTION}.completed",
        item_id=item_id,
        content_index=0,
        transcript=join_words(event.words),
        usage={"type": "duration", "seconds": round_seconds(seconds)},
        languages=[{"code": event.language}] if event.language else [],
        **_logprobs(event.words, logprobs),
    )


def _logprobs(words: Sequence[Word], included: bool) -> dict[str, Any]:
    """Return the log probabilities of words: a live session does not know those of tokens."""
    return {"logprobs": [_logprob(word) for word in words]} if included else {}


def _logprob(word: Word) -> dict[str, Any]:
    logprob = round(math.log(max(word.probability, 1e-9)), 4)
    return {"token": word.text, "logprob": logprob, "bytes": list(word.text.encode())}
