"""What the protocol adapters share: frames split and parsed, words joined, times rounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from whisper_server.api.requests.text import parse_json
from whisper_server.core.errors import BadMessage
from whisper_server.inference.transcription.segments import Word

# A long frame is decoded in chunks of this many bytes, so that other clients do not wait for it.
_CHUNK_BYTES = 64 * 1024


def split_frame(frame: bytes) -> Iterator[bytes]:
    return (frame[start : start + _CHUNK_BYTES] for start in range(0, len(frame), _CHUNK_BYTES))


def parse_json_frame(frame: str) -> Mapping[str, Any]:
    """Return a JSON object that has a `type`; raises BadMessage."""
    try:
        message = parse_json(frame)
    except (ValueError, RecursionError) as exc:
        raise BadMessage("a text frame must be a JSON object") from exc
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessage("a text frame must be a JSON object with a type")
    return message


def join_words(words: Iterable[Word], *, after: str = "") -> str:
    """Return the words as one text; it starts with a space only if it continues a text."""
    text = "".join(word.text for word in words)
    return text if after else text.lstrip()


def round_seconds(seconds: float) -> float:
    return round(seconds, 3)
