"""Words as Deepgram has them, in files and in live results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from whisper_server import __version__
from whisper_server.api.streaming.common import round_seconds
from whisper_server.inference.transcription.segments import Word, text_of

_PUNCTUATION = ".,;:!?…\"'“”‘’«»()[]¿¡-–—。，、！？"


def alternative(words: Sequence[Word], language: str = "") -> dict[str, Any]:
    """Return an alternative of a channel. With a `language`, it has the fields of multilingual results."""
    return {
        "transcript": text_of(words).strip(),
        "confidence": confidence(words),
        **({"languages": [language]} if language and words else {}),
        "words": [word_json(word, language) for word in words],
    }


def word_json(word: Word, language: str = "") -> dict[str, Any]:
    punctuated = word.text.strip()
    return {
        "word": punctuated.strip(_PUNCTUATION).lower() or punctuated,
        "start": round_seconds(word.start),
        "end": round_seconds(word.end),
        "confidence": round(word.probability, 4),
        **({"language": language} if language else {}),
        "punctuated_word": punctuated,
    }


def confidence(words: Sequence[Word]) -> float:
    return round(sum(word.probability for word in words) / len(words), 4) if words else 0.0


def timestamp(time: datetime) -> str:
    """Return a UTC time in Deepgram's notation."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def model_uuid(model: str) -> str:
    return str(uuid5(NAMESPACE_URL, model))


def model_info(model: str) -> dict[str, str]:
    return {"name": model, "version": __version__, "arch": "whisper"}
