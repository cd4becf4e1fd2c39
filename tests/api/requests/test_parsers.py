from __future__ import annotations

import math
from typing import Any

import pytest

from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import (
    FLAG,
    Parser,
    checked,
    choice,
    integer,
    json_object,
    list_of,
    number,
    or_none,
    text_up_to,
)
from whisper_server.core.errors import BadOption

HUGE = "9" * 5000
INTEGER = integer(-1, 16)
NUMBER = number(0, 1)
OBJECT = json_object({"threshold": number(0, 1), "pause_ms": integer(0, 1000), "strict": FLAG})
PAIRS = checked(list_of(integer(0, 9), 4), lambda values: len(values) % 2 == 0, "in pairs")


def _texts(*texts: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("text", texts, ids=lambda text: ascii(text)[:30])


def _parse(parser: Parser, text: str) -> Any:
    return Field("field", parser, "").parse(text)


def _refused(parser: Parser, text: str) -> None:
    with pytest.raises(BadOption) as caught:
        _parse(parser, text)
    assert str(caught.value).startswith("field: ")
    assert str(caught.value).endswith(f" is not allowed; expected {parser.allowed}")


@pytest.mark.parametrize(
    ("text", "value"), [("-1", -1), ("0", 0), ("16", 16), ("+5", 5), ("05", 5), (" 5\n", 5), ("٥", 5), ("５", 5)]
)
def test_integer_takes_whole_numbers_in_range(text: str, value: int) -> None:
    assert _parse(INTEGER, text) == value
    assert type(_parse(INTEGER, text)) is int


@_texts("-2", "17", "1.0", "1e1", "1e999", "nan", "inf", HUGE, "-" + HUGE, "9" * 400)
def test_integer_refuses_other_numbers(text: str) -> None:
    _refused(INTEGER, text)


@_texts("", " ", "0x5", "1 2", "1,2", "five", "½", "²", "None", "true", "5\0")
def test_integer_refuses_text_that_is_not_a_whole_number(text: str) -> None:
    _refused(INTEGER, text)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("1", 1), ("0.5", 0.5), (".5", 0.5), ("5e-1", 0.5), (" 0.5 ", 0.5), ("٠.٥", 0.5)]
)
def test_number_takes_numbers_in_range(text: str, value: float) -> None:
    assert _parse(NUMBER, text) == value
    assert type(_parse(NUMBER, text)) is float


@_texts("-0.1", "1.1", "nan", "-nan", "inf", "-inf", "Infinity", "1e999", "0,5", "half", "½", "0x1", "", " ", HUGE)
def test_number_refuses_other_text(text: str) -> None:
    _refused(NUMBER, text)


@_texts("nan", "inf", "1e999")
def test_number_without_an_upper_limit_refuses_infinity_and_nan(text: str) -> None:
    _refused(number(0, math.inf), text)


@_texts("None", "none", "NONE", "null")
def test_or_none_takes_none(text: str) -> None:
    assert _parse(or_none(NUMBER), text) is None


def test_or_none_takes_the_values_of_its_parser() -> None:
    assert _parse(or_none(NUMBER), "0.5") == 0.5


@_texts("", "nil", "0.5 none", "2", "nan", HUGE)
def test_or_none_refuses_other_text(text: str) -> None:
    _refused(or_none(NUMBER), text)


@_texts("true", "True", "TRUE", "1", "yes", "on")
def test_flag_is_true(text: str) -> None:
    assert _parse(FLAG, text) is True


@_texts("false", "False", "FALSE", "0", "no", "off")
def test_flag_is_false(text: str) -> None:
    assert _parse(FLAG, text) is False


@_texts("", " ", "2", "-1", "1.0", "maybe", "truefalse", "none", "nan", "١", HUGE)
def test_flag_refuses_other_text(text: str) -> None:
    _refused(FLAG, text)


def test_choice_is_the_value_of_a_word_in_any_case() -> None:
    assert [_parse(choice({"one": 1, "two": 2}), text) for text in ("one", "TWO", "Two")] == [1, 2, 2]


@_texts("", "on", "one two", "three", "1", "nan", HUGE)
def test_choice_refuses_other_words(text: str) -> None:
    _refused(choice({"one": 1, "two": 2}), text)


def test_choice_describes_its_words_unless_a_description_is_given() -> None:
    assert choice({"one": 1, "two": 2}).allowed == "one of one, two"
    assert choice({"one": 1, "two": 2}, "a small number").allowed == "a small number"


@_texts("", " ", "§", "line\nline", "\0", "😀" * 10)
def test_text_is_kept_as_it_is(text: str) -> None:
    assert _parse(text_up_to(10), text) == text


def test_text_refuses_too_many_characters() -> None:
    _refused(text_up_to(10), "x" * 11)


@pytest.mark.parametrize(
    ("text", "values"), [("", []), (" ", []), ("5", [5]), ("1,2,3", [1, 2, 3]), (" 1 , 2 ", [1, 2]), ("2,2", [2, 2])]
)
def test_list_takes_comma_separated_values(text: str, values: list[int]) -> None:
    assert _parse(list_of(INTEGER, 3), text) == values


@_texts(",", "1,", ",1", "1,,2", "1;2", "1 2", "[1,2]", "1,17", "1,nan", f"1,{HUGE}", "1,2,3,4")
def test_list_refuses_other_text(text: str) -> None:
    _refused(list_of(INTEGER, 3), text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{}", {}),
        (' {"threshold": 0.5} ', {"threshold": 0.5}),
        ('{"threshold": 1, "pause_ms": 0, "strict": true}', {"threshold": 1.0, "pause_ms": 0, "strict": True}),
        ('{"threshold": "0.5", "strict": "no"}', {"threshold": 0.5, "strict": False}),
    ],
)
def test_object_takes_known_members(text: str, values: dict[str, Any]) -> None:
    assert _parse(OBJECT, text) == values


@_texts("", " ", "§", "{", "{}{}", "{threshold: 0.5}", "threshold=0.5", "[]", "5", "true", "null", '"text"', HUGE)
def test_object_refuses_other_text(text: str) -> None:
    _refused(OBJECT, text)


@_texts('{"other": 1}', '{"": 1}', '{"threshold": 0.5, "other": 1}', '{"Threshold": 0.5}', '{"__class__": 1}')
def test_object_refuses_unknown_members(text: str) -> None:
    _refused(OBJECT, text)


@_texts("NaN", "Infinity", "1e999", HUGE, "9" * 400, "2", "-1", "null", "true", '"x"', '""', "[]", "[0.5]", "{}")
def test_object_refuses_members_out_of_range(text: str) -> None:
    for parser in (integer(0, 1), number(0, 1)):
        _refused(json_object({"member": parser}), f'{{"member": {text}}}')


@_texts("[" * 100_000, '{"threshold":' * 100_000, '{"threshold": ' + "[" * 500 + "]" * 500 + "}")
def test_object_refuses_deeply_nested_json(text: str) -> None:
    _refused(OBJECT, text)


def test_object_describes_each_member() -> None:
    assert OBJECT.allowed == (
        "a JSON object with threshold: a number from 0 to 1; pause_ms: a whole number from 0 to 1000; "
        "strict: true or false"
    )


def test_checked_takes_values_that_meet_its_condition() -> None:
    assert _parse(PAIRS, "1,2,3,4") == [1, 2, 3, 4]


@_texts("1", "1,2,3", "1,x", "1,2,3,4,5,6")
def test_checked_refuses_other_values(text: str) -> None:
    _refused(PAIRS, text)


def test_long_values_are_shortened_in_the_response() -> None:
    with pytest.raises(BadOption) as caught:
        _parse(INTEGER, HUGE)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("parser", "schema"),
    [
        (INTEGER, {"type": "integer", "minimum": -1, "maximum": 16}),
        (NUMBER, {"type": "number", "minimum": 0, "maximum": 1}),
        (or_none(NUMBER), {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "none"}]}),
        (FLAG, {"type": "boolean"}),
        (choice({"a": 1, "b": 2}), {"type": "string", "enum": ["a", "b"]}),
        (text_up_to(9), {"type": "string", "maxLength": 9}),
        (PAIRS, {"type": "string", "description": PAIRS.allowed}),
    ],
)
def test_schema_says_what_is_allowed(parser: Parser, schema: dict[str, Any]) -> None:
    assert parser.schema == schema


def test_schema_of_an_object_has_its_members() -> None:
    schema = OBJECT.schema
    assert (schema["type"], schema["contentMediaType"]) == ("string", "application/json")
    assert list(schema["contentSchema"]["properties"]) == ["threshold", "pause_ms", "strict"]
