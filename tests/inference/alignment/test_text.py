from __future__ import annotations

from pathlib import Path

import pytest
from faster_whisper.tokenizer import Tokenizer
from tokenizers import Tokenizer as HfTokenizer

from whisper_server.inference.alignment.text import SegmentUnit, comparable_units, split_segments, split_words


@pytest.fixture(scope="module")
def english(weights: Path) -> Tokenizer:
    return Tokenizer(HfTokenizer.from_file(str(weights / "tokenizer.json")), multilingual=False)


@pytest.mark.parametrize(
    ("text", "unit", "segments"),
    [
        ("One  two.\n\n Three\tfour", "line", ["One two.", "Three four"]),
        ("One two. Three\nfour", "sentence", ["One two.", "Three", "four"]),
        ('He said "no!" Then he left. Why?', "sentence", ['He said "no!"', "Then he left.", "Why?"]),
        (
            "J. Smith has 3. place, e.g. here. Yes... maybe.",
            "sentence",
            ["J. Smith has 3. place, e.g. here.", "Yes... maybe."],
        ),
        ("今日は。「はい。」と言った。", "sentence", ["今日は。", "「はい。」と言った。"]),
        (" \n ", "sentence", []),
    ],
)
def test_segments_are_sentences_or_lines(text: str, unit: SegmentUnit, segments: list[str]) -> None:
    assert split_segments(text, unit) == segments


@pytest.mark.parametrize(
    "text",
    [
        "“Well-known” words — with (their) punctuation, 3.14 and all!",
        "<|endoftext|> is text, <|0.00|> too",
        "🫖 tea \u0301 and \ufffd你好 ½",
        "x" * 1000,
    ],
)
def test_words_have_the_spelling_of_the_text_and_no_special_tokens(english: Tokenizer, text: str) -> None:
    words = split_words(split_segments(text, "line"), english)
    assert "".join(word.text for word in words) == f" {text}"
    assert all(token < english.eot for word in words for token in word.tokens)
    assert all(0 <= word.spoken[0] < word.spoken[1] <= len(word.tokens) for word in words)


def test_punctuation_belongs_to_its_word_but_is_not_spoken(english: Tokenizer) -> None:
    (word,) = split_words(["tea,"], english)
    assert word.text == " tea,"
    assert english.decode(list(word.tokens[slice(*word.spoken)])) == " tea"


def test_words_know_their_segment(english: Tokenizer) -> None:
    words = split_words(["One two.", "Three"], english)
    assert [(word.text, word.segment) for word in words] == [(" One", 0), (" two.", 0), (" Three", 1)]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (" Don’t!", ["dont"]),
        ("movable-type", ["movable", "type"]),
        ("ﬁve½", ["five1", "2"]),
        ("你好x", ["你", "好", "x"]),
        ("—", []),
    ],
)
def test_units_are_equal_for_different_spellings(text: str, units: list[str]) -> None:
    assert comparable_units(text) == units
