from __future__ import annotations

import time
from random import Random

import pytest

from whisper_server.core.errors import Cancelled
from whisper_server.inference.alignment.matching import WordMatcher
from whisper_server.inference.request_context import RequestContext


def pairs(words: str, others: str) -> list[str]:
    """Return the counterpart of each word, or a dash."""
    second = others.split()
    found = WordMatcher(words.split(), second, lambda: None).pairs()
    return [second[position] if position >= 0 else "-" for position in found]


@pytest.mark.parametrize(
    ("words", "others", "expected"),
    [
        ("the cat sat", "the cat sat", "the cat sat"),
        ("the cat sat", "the bat sat", "the bat sat"),
        ("the cat sat on a mat", "the cat um sat a mat", "the cat sat - a mat"),
        ("x y z this p was never said p q r", "x y z p q r", "x y z - - - - - p q r"),
        ("coloured glass", "big colored glass", "colored glass"),
        ("a b", "", "- -"),
        ("", "a b", ""),
    ],
)
def test_words_have_counterparts(words: str, others: str, expected: str) -> None:
    assert pairs(words, others) == expected.split()


def spoken(random: Random, count: int) -> list[str]:
    return [f"w{int(random.paretovariate(0.7)) % 20_000}" for _ in range(count)]


def test_forty_thousand_words_with_errors_take_seconds() -> None:
    random = Random(1)
    words = spoken(random, 40_000)
    heard: list[tuple[int, str]] = []
    for number, word in enumerate(words):
        chance = random.random()
        if chance > 0.1:
            heard.append((number, word))
        elif chance > 0.05:
            heard.append((-1, "misheard"))
    started = time.monotonic()
    found = WordMatcher(words, [word for _, word in heard], lambda: None).pairs()
    assert time.monotonic() - started < 20
    right = sum(position >= 0 and heard[position][0] == number for number, position in enumerate(found))
    assert right > 0.97 * sum(number >= 0 for number, _ in heard)


@pytest.mark.parametrize("count", [60, 400])
def test_repeated_sentences_are_told_apart(count: int) -> None:
    random = Random(3)
    sentences = [[f"{name}{number}" for number in range(15)] for name in "abcdef"]
    words = [word for _ in range(count) for word in random.choice(sentences)]
    heard = [word if random.random() > 0.1 else "misheard" for word in words]
    assert WordMatcher(words, heard, lambda: None).pairs().tolist() == list(range(len(words)))


@pytest.mark.parametrize("vocabulary", [1, 2])
def test_texts_without_rare_words_cost_no_more(vocabulary: int) -> None:
    """The worst case for anchors."""
    random = Random(1)
    words, others = (random.choices("ab"[:vocabulary], k=size) for size in (10_000, 6_000))
    started = time.monotonic()
    found = WordMatcher(words, others, lambda: None).pairs()
    assert time.monotonic() - started < 20
    assert len(found) == len(words)


def test_a_text_that_repeats_itself_is_matched_in_steps() -> None:
    """It has no rare words at all."""
    period = [f"w{number}" for number in range(262)]
    words = period * 20
    heard = [(number, word) for number, word in enumerate(words) if number % 11]
    found = WordMatcher(words, [word for _, word in heard], lambda: None).pairs()
    right = sum(position >= 0 and heard[position][0] == number for number, position in enumerate(found))
    assert right == len(heard)


def test_counterparts_are_in_order() -> None:
    random = Random(2)
    words, others = (random.choices("abcdefghij", k=400) for _ in range(2))
    found = [position for position in WordMatcher(words, others, lambda: None).pairs() if position >= 0]
    assert found == sorted(set(found))
    assert len(found) > 100


def test_a_cancelled_request_stops_matching() -> None:
    cancelled = RequestContext()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        WordMatcher(["a"], ["b"], cancelled.check).pairs()
