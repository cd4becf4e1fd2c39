"""Parsers of form fields. A parser returns the value of a text, or raises one of PARSE_ERRORS.

`allowed` describes the accepted values in words and `schema` describes them as JSON Schema.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from whisper_server.inference.transcription.languages import language_codes

# Raised for text that cannot be converted.
PARSE_ERRORS = (ValueError, KeyError, OverflowError, RecursionError)

Schema: TypeAlias = dict[str, Any]

_NumberT = TypeVar("_NumberT", int, float)
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Parser(Protocol):
    @property
    def allowed(self) -> str: ...

    def schema(self) -> Schema: ...

    def __call__(self, text: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def __call__(self, text: str) -> int:
        return _within(int(text), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Number:
    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}

    def __call__(self, text: str) -> float:
        return _within(float(text), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Optional:
    """Accepts `None` as openai-whisper's command line does, to disable a threshold."""

    parser: Parser

    @property
    def allowed(self) -> str:
        return f"{self.parser.allowed}, or none"

    def schema(self) -> Schema:
        return {"anyOf": [self.parser.schema(), {"const": "none"}]}

    def __call__(self, text: str) -> Any:
        return None if text.strip().lower() in ("none", "null") else self.parser(text)


@dataclass(frozen=True, slots=True)
class Flag:
    allowed: str = "true or false"

    def schema(self) -> Schema:
        return {"type": "boolean"}

    def __call__(self, text: str) -> bool:
        return _FLAGS[text.lower()]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words, each of which stands for a value."""

    values: Mapping[str, Any]
    description: str = ""

    @classmethod
    def of(cls, *words: str) -> Choice:
        """Return a choice of words that stand for themselves."""
        return cls({word: word for word in words})

    @property
    def allowed(self) -> str:
        return self.description or "one of " + ", ".join(self.values)

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.values)}

    def __call__(self, text: str) -> Any:
        return self.values[text.strip().lower()]


@dataclass(frozen=True, slots=True)
class LanguageTag:
    """A language tag of Deepgram's or OpenAI's clients; returns None for `multi` and `auto`, which detect it."""

    allowed: str = "a language of Whisper by code (en, en-US, …), or multi"

    def schema(self) -> Schema:
        return {"type": "string"}

    def __call__(self, text: str) -> str | None:
        tag = text.strip().lower()
        codes = language_codes()
        if tag in ("multi", "auto"):
            return None
        return codes[tag] if tag in codes else codes[tag.replace("_", "-").partition("-")[0]]


@dataclass(frozen=True, slots=True)
class Text:
    max_length: int

    @property
    def allowed(self) -> str:
        return f"at most {self.max_length} characters"

    def schema(self) -> Schema:
        return {"type": "string", "maxLength": self.max_length}

    def __call__(self, text: str) -> str:
        if len(text) > self.max_length:
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class List:
    """Comma-separated values."""

    parser: Parser
    max_items: int

    @property
    def allowed(self) -> str:
        return f"up to {self.max_items} comma-separated values, each {self.parser.allowed}"

    def schema(self) -> Schema:
        return {"type": "string", "description": self.allowed}

    def __call__(self, text: str) -> list[Any]:
        values = [self.parser(part.strip()) for part in text.split(",")] if text.strip() else []
        if len(values) > self.max_items:
            raise ValueError
        return values


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object with a parser for each member."""

    members: Mapping[str, Parser]

    @property
    def allowed(self) -> str:
        members = "; ".join(f"{name}: {parser.allowed}" for name, parser in self.members.items())
        return f"a JSON object with {members}"

    def schema(self) -> Schema:
        members = {name: parser.schema() for name, parser in self.members.items()}
        content = {"type": "object", "properties": members, "additionalProperties": False}
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": content}

    def __call__(self, text: str) -> dict[str, Any]:
        decoded = json.loads(text)
        if not isinstance(decoded, dict):
            raise ValueError
        return {name: self.members[name](json.dumps(value).strip('"')) for name, value in decoded.items()}


@dataclass(frozen=True, slots=True)
class Checked:
    """Adds a condition to another parser; `condition` describes it in words."""

    parser: Parser
    is_valid: Callable[[Any], bool]
    condition: str

    @property
    def allowed(self) -> str:
        return f"{self.parser.allowed}, {self.condition}"

    def schema(self) -> Schema:
        return {**self.parser.schema(), "description": self.allowed}

    def __call__(self, text: str) -> Any:
        value = self.parser(text)
        if not self.is_valid(value):
            raise ValueError
        return value


def _within(value: _NumberT, low: float, high: float) -> _NumberT:
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError
    return value
