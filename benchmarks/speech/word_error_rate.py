"""Word error rate after normalisation, and the number of repetition loops.

    python -m benchmarks.speech.word_error_rate texts.json transcripts.json     # both {file: text}

Normalisation removes case and punctuation; hyphens separate words, contractions stay. Numbers from 0 to 9999 become
digits, also from English, German, Spanish and French words, and signs before or after numbers become words. Each
Chinese or Japanese character counts as a word. A loop is one to four words, at least five times in a row.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.report import argument_parser
from benchmarks.speech.number_words import LANGUAGES, LARGEST, lexicon, spell

_SIGNS = {
    "en": {"$": "dollars", "£": "pounds", "€": "euros", "%": "percent", "&": "and"},
    "de": {"$": "dollar", "£": "pfund", "€": "euro", "%": "prozent", "&": "und"},
    "es": {"$": "dólares", "£": "libras", "€": "euros", "%": "por ciento", "&": "y"},
    "fr": {"$": "dollars", "£": "livres", "€": "euros", "%": "pour cent", "&": "et"},
}
_EQUIVALENTS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "okay": "ok"}  # without their full stops
_EQUIVALENT_PHRASES = {
    "en": ((r"\bper cent\b", "percent"), (r"(?<=\d):00\b", " o'clock")),
    "fr": ((r"(?<=\d) ?h\b", " heures"),),
}
_DECIMAL = {"en": "point", "de": "komma", "es": "coma", "fr": "virgule"}
_SINGLE_CHARACTERS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_LOOP_REPETITIONS = 5
_LONGEST_LOOP = 4


def normalise(text: str, language: str = "en") -> list[str]:
    """Return the words to compare."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    separators = "[,. ]" if language == "fr" else "[,.]"
    text = re.sub(rf"(?<=\d){separators}(?=\d{{3}}(?!\d))", "", text)  # 1,250 and 1.250 and 1 250
    text = re.sub(r"([$£€])\s?([\d,.]*\d)", r"\2 \1", text)
    for sign, word in _SIGNS.get(language, {}).items():
        text = text.replace(sign, f" {word} ")
    for pattern, replacement in _EQUIVALENT_PHRASES.get(language, ()):
        text = re.sub(pattern, replacement, text)
    text = _SINGLE_CHARACTERS.sub(r" \1 ", _without_punctuation(text))
    words = [_EQUIVALENTS.get(word, word) for word in text.split()]
    return _without_decimal_word(_numbers_as_digits(words, language), language)


def _without_punctuation(text: str) -> str:
    """Keep letters, marks, digits and apostrophes within words."""
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)


def _numbers_as_digits(words: Sequence[str], language: str) -> list[str]:
    """Spell digits out first, so that "19 87", "1987" and "nineteen eighty-seven" become the same number."""
    number_words = lexicon(language)
    spelled = [part for word in words for part in _spelled(word, language)]
    converted: list[str] = []
    at = 0
    while at < len(spelled):
        lengths = (
            range(min(number_words.longest, len(spelled) - at), 0, -1)
            if spelled[at] in number_words.first_words
            else ()
        )
        length = next((n for n in lengths if tuple(spelled[at : at + n]) in number_words.numbers), 0)
        converted.append(str(number_words.numbers[tuple(spelled[at : at + length])]) if length else spelled[at])
        at += length or 1
    return converted


def _spelled(word: str, language: str) -> list[str]:
    if language not in LANGUAGES or not word.isdecimal() or int(word) > LARGEST:
        return [word]
    words = spell(int(word), language).replace("-", " ").casefold().split()
    return ["oh", *words] if language == "en" and re.fullmatch("0[1-9]", word) else words  # 7:05 is seven oh five


def _without_decimal_word(words: Sequence[str], language: str) -> list[str]:
    """Remove "point" from "three point five", as 3.5 has lost its point."""

    def is_decimal_word(at: int) -> bool:
        neighbours = words[max(at - 1, 0)], words[min(at + 1, len(words) - 1)]
        return words[at] == _DECIMAL.get(language) and all(word.isdecimal() for word in neighbours)

    return [word for at, word in enumerate(words) if not is_decimal_word(at)]


def distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The Levenshtein distance: the fewest words to insert, delete or replace."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def count_errors(pairs: Iterable[tuple[str, str]], language: str = "en") -> tuple[int, int]:
    """Return the errors and the reference words of pairs of (reference, hypothesis)."""
    errors = words = 0
    for reference, hypothesis in pairs:
        normalised = normalise(reference, language)
        errors += distance(normalised, normalise(hypothesis, language))
        words += len(normalised)
    return errors, words


def error_rate(reference: str, hypothesis: str) -> float:
    """Return the word error rate of English text in percent."""
    errors, words = count_errors([(reference, hypothesis)])
    return round(100 * errors / max(1, words), 2)


def count_loops(text: str) -> int:
    words = normalise(text, "")
    loops = at = 0
    while at < len(words):
        runs = [(n, _repetitions(words, at, n)) for n in range(1, _LONGEST_LOOP + 1)]
        length = max((n * times for n, times in runs if times >= _LOOP_REPETITIONS), default=0)
        loops += bool(length)
        at += length or 1
    return loops


def _repetitions(words: Sequence[str], at: int, length: int) -> int:
    """How many times in a row the words from `at` occur."""
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
    """Return errors, reference words and loops of pairs of (file, transcript); errors only of files with a text."""
    errors = words = loops = 0
    for file, transcript in transcripts:
        loops += count_loops(transcript)
        if (reference := texts.get(file, texts.get(Path(file).stem))) is not None:
            file_errors, file_words = count_errors([(reference, transcript)], language_of(file))
            errors, words = errors + file_errors, words + file_words
    return errors, words, loops


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("transcripts", type=Path)
    arguments = parser.parse_args()
    texts, transcripts = (json.loads(path.read_text()) for path in (arguments.texts, arguments.transcripts))
    errors, words, loops = score(texts, transcripts.items())
    print(f"{errors} errors in {words} words ({100 * errors / max(words, 1):.2f} %), {loops} loops")


if __name__ == "__main__":
    main()
