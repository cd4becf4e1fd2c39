"""Numbers from 0 to 9999 in English, German, Spanish and French words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

LARGEST = 9999


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_EN = _words("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""")
_EN_TENS = _words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
_DE = _words("""null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn
    siebzehn achtzehn neunzehn""")
_DE_TENS = _words("_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_ES = _words("""cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis
    diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis
    veintisiete veintiocho veintinueve""")
_ES_TENS = _words("_ _ _ treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_ES_HUNDREDS = _words("""_ ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos
    novecientos""")
_FR = _words("""zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept
    dix-huit dix-neuf""")
_FR_TENS = _words("_ _ vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt")


def spell(number: int, language: str) -> str:
    """The usual words for a number: 23 is twenty-three, dreiundzwanzig, veintitrés, vingt-trois."""
    return next(_SPELLINGS[language](number))


def spellings(number: int, language: str) -> Iterator[str]:
    """All supported ways to say it, the most common one first; some are yielded twice."""
    return _SPELLINGS[language](number)


def _english(number: int) -> Iterator[str]:
    yield from _english_plain(number)
    left, right = divmod(number, 100)
    if not left:
        return
    head = _english_small(left)
    if left > 10 and left % 10:
        yield from (f"{head} hundred{tail}" for tail in _english_tails(right))
    if right:  # years, times and room numbers: nineteen eighty-seven, eight forty-five, seven oh five
        yield f"{head} {_english_small(right) if right >= 10 else 'oh ' + _EN[right]}"


def _english_plain(number: int) -> Iterator[str]:
    if number < 100:
        yield _english_small(number)
        return
    if number < 1000:
        unit, name, tails = number // 100, "hundred", list(_english_tails(number % 100))
    else:
        remainder = number % 1000
        unit, name = number // 1000, "thousand"
        tails = (
            list(_english_tails(remainder)) if remainder < 100 else [" " + words for words in _english_plain(remainder)]
        )
    for one in (_EN[unit], "a") if unit == 1 else (_EN[unit],):
        yield from (f"{one} {name}{tail}" for tail in tails)


def _english_small(number: int) -> str:
    if number < 20:
        return _EN[number]
    tens, unit = divmod(number, 10)
    return _EN_TENS[tens] + (f"-{_EN[unit]}" if unit else "")


def _english_tails(remainder: int) -> Iterator[str]:
    yield from (f" {_english_small(remainder)}", f" and {_english_small(remainder)}") if remainder else ("",)


def _german(number: int) -> Iterator[str]:
    if number < 100:
        yield _german_small(number)
        return
    divisor, name = (1000, "tausend") if number >= 1000 else (100, "hundert")
    unit, remainder = divmod(number, divisor)
    tails = list(_german(remainder)) if remainder else [""]
    for one in ("ein", "") if unit == 1 else (_DE[unit],):
        for tail in tails:
            yield f"{one}{name}{tail}"
            if 0 < remainder < 100:
                yield f"{one}{name}und{tail}"
    if 1100 <= number < 2000:
        left, right = divmod(number, 100)
        yield f"{_DE[left]}hundert{_german_small(right) if right else ''}"


def _german_small(number: int) -> str:
    if number < 20:
        return _DE[number]
    tens, unit = divmod(number, 10)
    return (f"{'ein' if unit == 1 else _DE[unit]}und" if unit else "") + _DE_TENS[tens]


def _spanish(number: int) -> Iterator[str]:
    words = _spanish_plain(number)
    yield words
    for masculine, feminine in (("cientos", "cientas"), ("quinientos", "quinientas")):
        yield words.replace(masculine, feminine)
    if number > 1 and words.endswith("uno"):
        stem = words.removesuffix("uno")
        yield from (stem + "un", stem + "una", stem + "ún")


def _spanish_plain(number: int) -> str:
    if number < 30:
        return _ES[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _ES_TENS[tens] + (f" y {_ES[unit]}" if unit else "")
    if number == 100:
        return "cien"
    if number < 1000:
        return _joined(_ES_HUNDREDS[number // 100], number % 100, _spanish_plain)
    return _joined("mil" if number < 2000 else f"{_ES[number // 1000]} mil", number % 1000, _spanish_plain)


def _french(number: int) -> Iterator[str]:
    words = _french_plain(number)
    yield words
    yield words.replace("cents", "cent").replace("vingts", "vingt")
    if number > 1 and words.endswith("un"):
        yield words + "e"


def _french_plain(number: int) -> str:
    if number < 100:
        return _french_small(number)
    if number < 1000:
        unit, remainder = divmod(number, 100)
        hundreds = "cent" if unit == 1 else f"{_FR[unit]} cent{'' if remainder else 's'}"
        return _joined(hundreds, remainder, _french_plain)
    return _joined("mille" if number < 2000 else f"{_FR[number // 1000]} mille", number % 1000, _french_plain)


def _french_small(number: int) -> str:
    if number < 20:
        return _FR[number]
    tens, unit = divmod(number, 10)
    unit += 10 if tens in (7, 9) else 0
    if number == 80:
        return "quatre-vingts"
    if unit in (1, 11) and tens < 8:
        return f"{_FR_TENS[tens]} et {_FR[unit]}"
    return _FR_TENS[tens] + (f"-{_FR[unit]}" if unit else "")


def _joined(head: str, remainder: int, spelled: Callable[[int], str]) -> str:
    return f"{head} {spelled(remainder)}" if remainder else head


_SPELLINGS = {"en": _english, "de": _german, "es": _spanish, "fr": _french}
LANGUAGES = tuple(_SPELLINGS)


@dataclass(frozen=True)
class Lexicon:
    """The number of each spelling; a spelling is a tuple of casefolded words without hyphens."""

    numbers: Mapping[tuple[str, ...], int]
    first_words: frozenset[str]
    longest: int


@cache
def lexicon(language: str) -> Lexicon:
    """Empty if the language is not in LANGUAGES."""
    supported = range(LARGEST + 1) if language in _SPELLINGS else ()
    pairs = [(words, number) for number in supported for words in spellings(number, language)]
    numbers = {tuple(words.replace("-", " ").casefold().split()): number for words, number in pairs}
    return Lexicon(numbers, frozenset(words[0] for words in numbers), max(map(len, numbers), default=0))
