"""Languages as clients of other services name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whisper_server.inference.transcription.languages import language_codes


@dataclass(frozen=True, slots=True)
class Language:
    """The language of a live session, with or without a region; Deepgram's `multi` leaves it to the model."""

    allowed: str = "a language of Whisper by code (en, en-US, …), or multi"

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def __call__(self, text: str) -> str | None:
        spoken = text.strip().lower()
        codes = language_codes()
        if spoken in ("multi", "auto"):
            return None
        return codes[spoken] if spoken in codes else codes[spoken.replace("_", "-").partition("-")[0]]
