from __future__ import annotations

import re
from random import Random

import pytest

from benchmarks.speech.number_words import LANGUAGES
from benchmarks.speech.sentences import compose, read_grammar


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_seed_gives_the_same_sentences(language: str) -> None:
    def sample(seed: int) -> list[str]:
        random = Random(seed)
        return [compose(language, random) for _ in range(50)]

    assert sample(1) == sample(1)
    assert len(set(sample(1) + sample(2))) > 90


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_complete_and_without_digits(language: str) -> None:
    random = Random(1)
    for _ in range(500):
        sentence = compose(language, random)
        assert re.fullmatch(r"[^\W\d_a-z].*[.?]|¿.*\?", sentence), sentence
        assert not re.search(r"[{}\d]|  ", sentence), sentence


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_symbol_of_a_grammar_is_defined_and_used(language: str) -> None:
    grammar = read_grammar(language)
    texts = [text for alternatives in grammar.values() for text in alternatives]
    assert {symbol for text in texts for symbol in re.findall(r"\{([a-zA-Z_]+)\}", text)} == {*grammar} - {"sentence"}
    assert "" not in texts
