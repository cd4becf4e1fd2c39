"""The data of a `transcribe` event: model, language, and words to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import LANGUAGE_OR_AUTO, text_up_to
from whisper_server.core.errors import BadOption

_NAME = Field("name", text_up_to(300), "the name of a loaded model, or one of OpenAI's names for the served model")
_LANGUAGE = Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected if absent")
# From the least to the most important: of a long prompt, Whisper reads the end.
_EXPECTED_WORDS = ("transcript_terms", "transcript_names")
# In characters; more than Whisper reads.
_MAX_PROMPT = 2_000


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """`decoding` is for faster-whisper's `transcribe()`; an empty `model` is the served one."""

    model: str = ""
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def language(self) -> str | None:
        language: str | None = self.decoding.get("language")
        return language


def parse_transcribe(data: Mapping[str, Any]) -> TranscribeOptions:
    """Ignore unknown fields; raises BadOption."""
    model, tag = _text(data, _NAME), _text(data, _LANGUAGE)
    language = _LANGUAGE.parse(tag) if tag.strip() else None
    prompt = _prompt([word for name in _EXPECTED_WORDS for word in _words(data, name)])
    decoding = {"language": language, "initial_prompt": prompt}
    return TranscribeOptions(_NAME.parse(model), {name: value for name, value in decoding.items() if value})


def _text(data: Mapping[str, Any], field: Field) -> str:
    text = data.get(field.name) or ""
    if not isinstance(text, str):
        raise BadOption(field.name, text, field.parser.allowed)
    return text


def _words(data: Mapping[str, Any], name: str) -> list[str]:
    words = data.get(name) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadOption(name, words, "a list of texts")
    return words


def _prompt(words: list[str]) -> str:
    """Join as many of the last words as a prompt may have."""
    chosen: list[str] = []
    for word in reversed(words):
        if sum(map(len, chosen)) + 2 * len(chosen) + len(word) > _MAX_PROMPT:
            break
        chosen.insert(0, word)
    return ", ".join(chosen)
