"""Random sentences from the templates and word lists in grammar/LANGUAGE.txt."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from random import Random

from benchmarks.speech.number_words import spell

GRAMMARS = Path(__file__).parent / "grammar"
_SLOT = re.compile(r"\{(?:(\w+)|(\d+)-(\d+))\}")
_ELISIONS = {  # how a word changes the one before it
    "en": ((r"\b([Aa]) (?=[aeio])", r"\1n "), (r"\b([Aa]) (?=umbrella)", r"\1n ")),
    "de": (),
    "es": ((r"\b([Dd])e el\b", r"\1el"), (r"\b([Aa]) el\b", r"\1l")),
    "fr": ((r"\b([Qq])ue (?=[aeiouéAE])", r"\1u'"), (r"\b([Dd])e (?=[aeiouéAE])", r"\1'")),
}
_UNSUITABLE_UNIT = {"en": (), "de": (1,), "es": (1,), "fr": (1,)}  # would have to agree with the gender of its noun


@cache
def read_grammar(language: str) -> dict[str, tuple[str, ...]]:
    """The alternatives of each symbol. Several lines may define one symbol; a repeated alternative is more frequent."""
    grammar: dict[str, tuple[str, ...]] = {}
    for line in (GRAMMARS / f"{language}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            symbol, alternatives = line.split(":", 1)
            grammar[symbol] = grammar.get(symbol, ()) + tuple(text.strip() for text in alternatives.split("|"))
    return grammar


def compose(language: str, random: Random) -> str:
    """One sentence with numbers in words; the same state of `random` gives the same sentence."""
    text = _expand("{sentence}", language, random)
    for pattern, replacement in _ELISIONS[language]:
        text = re.sub(pattern, replacement, text)
    return re.sub(r"\w", lambda first: first.group().upper(), text, count=1)


def _expand(text: str, language: str, random: Random) -> str:
    def fill(slot: re.Match[str]) -> str:
        symbol, low, high = slot.groups()
        if symbol is None:
            return spell(_number(int(low), int(high), language, random), language)
        return _expand(random.choice(read_grammar(language)[symbol]), language, random)

    return _SLOT.sub(fill, text)


def _number(low: int, high: int, language: str, random: Random) -> int:
    numbers = range(low, high + 1, 100 if high > 2000 else 1)
    return random.choice([n for n in numbers if n % 10 not in _UNSUITABLE_UNIT[language] or n % 100 == 11])
