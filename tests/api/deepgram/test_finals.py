from __future__ import annotations

import pytest
from scripted import word

from whisper_server.api.deepgram.finals import settled, with_punctuation
from whisper_server.inference.transcription.segments import Word


def spoken(text: str, *, pause_after: int = 0) -> list[Word]:
    """Return words of 0.3 s with 0.1 s between them, and a second after the word with this number."""
    starts = [0.4 * number + (number >= pause_after > 0) for number, _ in enumerate(text.split())]
    return [word(f" {part}", start, start + 0.3) for part, start in zip(text.split(), starts, strict=True)]


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("one two three", ""),
        ("one two three four five", ""),
        ("one two three, four", ""),  # no single word may be left over
        ("one two three, four five", "one two three,"),
        ("yes, two three four", ""),  # nor sent
        ("yes, two three four. Five six", "yes, two three four."),
        ("a b c, d e f, g h", "a b c, d e f,"),
        ("", ""),
        ("one", ""),
    ],
)
def test_a_clause_is_settled_when_two_words_follow(text: str, final: str) -> None:
    words = spoken(text)
    assert " ".join(text.split()[: settled(words)]) == final


def test_a_pause_settles_the_words_before_it() -> None:
    assert settled(spoken("a b c d e f", pause_after=4)) == 4
    assert settled(spoken("a b c d e f", pause_after=2)) == 0


def test_words_of_four_seconds_are_settled_at_their_longest_gap() -> None:
    words = spoken(" ".join("abcdefghijklm"))
    assert settled(words[:12]) == 0
    assert settled(words) == 11
    later = [word(w.text, w.start + 0.2 * (number >= 6), w.end + 0.2 * (number >= 6)) for number, w in enumerate(words)]
    assert settled(later) == 6


def test_several_clauses_are_settled_one_after_the_other() -> None:
    words = spoken("a b c, d e f g h, i j k l m n, o p")
    assert [settled(words), settled(words[8:]), settled(words[14:])] == [8, 6, 0]


def test_punctuation_that_was_confirmed_later_stays_with_its_word() -> None:
    words = [*spoken("a b c."), word("”", 1.2), *spoken("d e f")[1:]]
    assert settled(words) == 0
    assert [w.text for w in with_punctuation(words)] == [" a", " b", " c.”", " e", " f"]
    assert [w.text for w in with_punctuation([word("”", 0.1), word(" a", 0.2)])] == ["”", " a"]
