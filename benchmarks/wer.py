"""Word error rate after a normalisation of our own, and runaway repetitions.

    python benchmarks/wer.py texts.json transcripts.json     # both {file: text}

Both sides lose case and punctuation; hyphens separate words, contractions stay. Numbers from 0 to 9999 become digits,
whether they come as digits or in words (English, German, Spanish, French; elsewhere only digits are known), and signs
before or after numbers become words. A Chinese or Japanese character counts as a word.
"""

from __future__ import annotations

import argparse
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from numerals import LANGUAGES, LARGEST, lexicon, spell

_SIGNS = {
    "en": {"$": "dollars", "£": "pounds", "€": "euros", "%": "percent", "&": "and"},
    "de": {"$": "dollar", "£": "pfund", "€": "euro", "%": "prozent", "&": "und"},
    "es": {"$": "dólares", "£": "libras", "€": "euros", "%": "por ciento", "&": "y"},
    "fr": {"$": "dollars", "£": "livres", "€": "euros", "%": "pour cent", "&": "et"},
}
_SAME = {"mr": "mister", "mrs": "missus", "dr": "doctor", "okay": "ok"}  # after the full stop is gone
_SAME_PHRASES = {
    "en": ((r"\bper cent\b", "percent"), (r"(?<=\d):00\b", " o'clock")),
    "fr": ((r"(?<=\d) ?h\b", " heures"),),
}
_DECIMAL = {"en": "point", "de": "komma", "es": "coma", "fr": "virgule"}
_SINGLE_CHARACTERS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_REPEATS = 5
_LONGEST_REPEATED = 4


def normalise(text: str, language: str = "en") -> list[str]:
    """The words that count."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    separators = "[,. ]" if language == "fr" else "[,.]"
    text = re.sub(rf"(?<=\d){separators}(?=\d{{3}}(?!\d))", "", text)  # 1,250 and 1.250 and 1 250
    text = re.sub(r"([$£€])\s?([\d,.]*\d)", r"\2 \1", text)
    for sign, word in _SIGNS.get(language, {}).items():
        text = text.replace(sign, f" {word} ")
    for pattern, replacement in _SAME_PHRASES.get(language, ()):
        text = re.sub(pattern, replacement, text)
    text = _SINGLE_CHARACTERS.sub(r" \1 ", _without_punctuation(text))
    words = [_SAME.get(word, word) for word in text.split()]
    return _without_decimal_word(_numbers_as_digits(words, language), language)


def _without_punctuation(text: str) -> str:
    """Letters, marks, digits and apostrophes within words."""
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)


def _numbers_as_digits(words: Sequence[str], language: str) -> list[str]:
    """Digits are spelled out first, so that "19 87", "1987" and "nineteen eighty-seven" end as the same."""
    known = lexicon(language)
    spelled = [part for word in words for part in _spelled(word, language)]
    found: list[str] = []
    at = 0
    while at < len(spelled):
        lengths = range(min(known.longest, len(spelled) - at), 0, -1) if spelled[at] in known.first_words else ()
        length = next((n for n in lengths if tuple(spelled[at : at + n]) in known.numbers), 0)
        found.append(str(known.numbers[tuple(spelled[at : at + length])]) if length else spelled[at])
        at += length or 1
    return found


def _spelled(word: str, language: str) -> list[str]:
    if language not in LANGUAGES or not word.isdecimal() or int(word) > LARGEST:
        return [word]
    words = spell(int(word), language).replace("-", " ").casefold().split()
    return ["oh", *words] if language == "en" and re.fullmatch("0[1-9]", word) else words  # 7:05 is seven oh five


def _without_decimal_word(words: Sequence[str], language: str) -> list[str]:
    """3.5 has lost its point, so "three point five" loses its word."""

    def separates(at: int) -> bool:
        around = words[max(at - 1, 0)], words[min(at + 1, len(words) - 1)]
        return words[at] == _DECIMAL.get(language) and all(word.isdecimal() for word in around)

    return [word for at, word in enumerate(words) if not separates(at)]


def distance(said: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein: the fewest words to insert, delete or replace."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def wer(pairs: Iterable[tuple[str, str]], language: str = "en") -> tuple[int, int]:
    """Errors and words of what was said, summed over pairs of (said, heard)."""
    errors = words = 0
    for said, heard in pairs:
        normalised = normalise(said, language)
        errors += distance(normalised, normalise(heard, language))
        words += len(normalised)
    return errors, words


def loops(text: str) -> int:
    """How often one to four words come at least five times in a row."""
    words = normalise(text, "")
    found = at = 0
    while at < len(words):
        runs = [(n, _repeats(words, at, n)) for n in range(1, _LONGEST_REPEATED + 1)]
        length = max((n * times for n, times in runs if times >= _REPEATS), default=0)
        found += bool(length)
        at += length or 1
    return found


def _repeats(words: Sequence[str], at: int, length: int) -> int:
    """How often the words from `at` come in a row."""
    times = 1
    unit = words[at : at + length]
    while words[at + times * length : at + (times + 1) * length] == unit:
        times += 1
    return times


def language_of(file: str) -> str:
    """The language in a corpus file's name (VOICE_LANGUAGE_VARIANT_NUMBER.flac); English for any other file."""
    parts = Path(file).stem.split("_")
    return parts[1] if len(parts) == 4 and parts[1] in LANGUAGES else "en"


def score(texts: Mapping[str, str], transcripts: Iterable[tuple[str, str]]) -> tuple[int, int, int]:
    """Errors, words and loops of (file, transcript), errors only of those whose text is known."""
    errors = words = found = 0
    for file, heard in transcripts:
        found += loops(heard)
        if (said := texts.get(file, texts.get(Path(file).stem))) is not None:
            more_errors, more_words = wer([(said, heard)], language_of(file))
            errors, words = errors + more_errors, words + more_words
    return errors, words, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("transcripts", type=Path)
    arguments = parser.parse_args()
    texts, transcripts = (json.loads(path.read_text()) for path in (arguments.texts, arguments.transcripts))
    errors, words, found = score(texts, transcripts.items())
    print(f"{errors} errors in {words} words ({100 * errors / max(words, 1):.2f} %), {found} loops")


if __name__ == "__main__":
    main()
