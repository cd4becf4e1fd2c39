"""Parsers of form fields."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


def _language(codes: Mapping[str, str | None]) -> Parser:
    """Accept the words of a table, and BCP 47 tags such as en-US or zh_Hant_TW, of which only the language counts."""

    def parse(text: str) -> str | None:
        tag = _valid(text.strip().lower(), _TAG.fullmatch(text.strip()) is not None)
        return codes[tag] if tag in codes else codes[_SUBTAGS.split(tag)[0]]

    words = "|".join(map(re.escape, codes))
    return Parser(parse, _LANGUAGES, {"type": "string", "pattern": f"^({words})([-_][A-Za-z0-9]{{1,8}}){{0,8}}$"})


_SUBTAGS = re.compile("[-_]")
_TAG = re.compile(r"[^\W_]+( [^\W_]+)*([-_][A-Za-z0-9]{1,8}){0,8}")
_LANGUAGES = "a language of Whisper by code, tag or English name (en, en-US, eng, english, …)"

LANGUAGE = _language(language_codes())
# The value of `auto` and of Deepgram's `multi`, which detect the language, is None.
LANGUAGE_OR_AUTO = replace(
    _language({"auto": None, "multi": None, **language_codes()}), allowed=f"{_LANGUAGES}, or auto"
)
