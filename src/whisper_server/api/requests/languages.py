"""Language tags as Deepgram's and OpenAI's clients send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whisper_server.inference.transcription.languages import language_codes


@dataclass(frozen=True, slots=True)
class Language:
    """Parses a language tag with or without a region; returns None for `multi` (Deepgram) and `auto`: detect it."""

    allowed: str = "a language of Whisper by code (en, en-US, …), or multi"

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def __call__(self, text: str) -> str | None:
        tag = text.strip().lower()
        codes = language_codes()
        if tag in ("multi", "auto"):
            return None
        return codes[tag] if tag in codes else codes[tag.replace("_", "-").partition("-")[0]]
