"""Parsers of form fields."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from whisper_server.api.requests.text import parse_json
from whisper_server.inference.transcription.languages import language_codes

# Raised for text that cannot be converted.
PARSE_ERRORS = (ValueError, KeyError, OverflowError, RecursionError)

Schema: TypeAlias = dict[str, Any]

T = TypeVar("T")
_NumberT = TypeVar("_NumberT", int, float)
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Parser:
    """`parse` returns the value of a text, or raises one of PARSE_ERRORS.

    `allowed` describes the accepted values in words, and `schema` describes them as JSON Schema.
    """

    parse: Callable[[str], Any]
    allowed: str
    schema: Schema


FLAG = Parser(lambda text: _FLAGS[text.lower()], "true or false", {"type": "boolean"})


def integer(low: int, high: int) -> Parser:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Parser(lambda text: _within(int(text), low, high), f"a whole number from {low} to {high}", schema)


def number(low: float, high: float) -> Parser:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Parser(lambda text: _within(float(text), low, high), f"a number from {low:g} to {high:g}", schema)


def text_up_to(max_length: int) -> Parser:
    schema = {"type": "string", "maxLength": max_length}
    return Parser(lambda text: _valid(text, len(text) <= max_length), f"at most {max_length} characters", schema)


def choice(values: Mapping[str, Any], allowed: str = "") -> Parser:
    """Accept one of several words, each of which stands for a value."""
    allowed = allowed or f"one of {', '.join(values)}"
    return Parser(lambda text: values[text.strip().lower()], allowed, {"type": "string", "enum": list(values)})


def one_of(*words: str) -> Parser:
    """Accept one of several words, which stand for themselves."""
    return choice({word: word for word in words})


def or_none(parser: Parser) -> Parser:
    """Accept `None`, too, as openai-whisper's command line does, to disable a threshold."""

    def parse(text: str) -> Any:
        return None if text.strip().lower() in ("none", "null") else parser.parse(text)

    return Parser(parse, f"{parser.allowed}, or none", {"anyOf": [parser.schema, {"const": "none"}]})


def list_of(parser: Parser, max_items: int) -> Parser:
    """Accept comma-separated values."""
    allowed = f"up to {max_items} comma-separated values, each {parser.allowed}"

    def parse(text: str) -> list[Any]:
        values = [parser.parse(part.strip()) for part in text.split(",")] if text.strip() else []
        return _valid(values, len(values) <= max_items)

    return Parser(parse, allowed, {"type": "string", "description": allowed})


def json_object(members: Mapping[str, Parser]) -> Parser:
    """Accept a JSON object with any of these members."""

    def parse(text: str) -> dict[str, Any]:
        decoded = parse_json(text)
        if not isinstance(decoded, dict):
            raise ValueError
        return {name: members[name].parse(json.dumps(value).strip('"')) for name, value in decoded.items()}

    allowed = "; ".join(f"{name}: {parser.allowed}" for name, parser in members.items())
    properties = {name: parser.schema for name, parser in members.items()}
    content = {"type": "object", "properties": properties, "additionalProperties": False}
    schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return Parser(parse, f"a JSON object with {allowed}", schema)


def checked(parser: Parser, is_valid: Callable[[Any], bool], condition: str) -> Parser:
    """Add a condition to a parser; `condition` describes it in words."""

    def parse(text: str) -> Any:
        value = parser.parse(text)
        return _valid(value, is_valid(value))

    allowed = f"{parser.allowed}, {condition}"
    return Parser(parse, allowed, {**parser.schema, "description": allowed})


def _within(value: _NumberT, low: float, high: float) -> _NumberT:
    return _valid(value, math.isfinite(value) and low <= value <= high)


def _valid(value: T, valid: bool) -> T:
    if not valid:
        raise ValueError
    return value


def _language_of_tag(text: str) -> str | None:
    tag, codes = text.strip().lower(), language_codes()
    if tag in ("multi", "auto"):
        return None
    return codes[tag] if tag in codes else codes[tag.replace("_", "-").partition("-")[0]]


LANGUAGE = choice(language_codes(), "a language of Whisper by code or English name (en, english, …)")
LANGUAGE_OR_AUTO = choice({"auto": None, **language_codes()}, f"{LANGUAGE.allowed}, or auto")
# The tags of Deepgram's and OpenAI's clients; the value of `multi` and `auto`, which detect the language, is None.
LANGUAGE_TAG = Parser(_language_of_tag, "a language of Whisper by code (en, en-US, …), or multi", {"type": "string"})
