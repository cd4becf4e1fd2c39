from __future__ import annotations

import pytest

from benchmarks.speech.number_words import LANGUAGES, LARGEST, spell, spellings
from benchmarks.speech.word_error_rate import count_errors, count_loops, distance, language_of, normalise, score


def test_case_and_punctuation_are_ignored() -> None:
    assert count_errors([("The kettle, it's “ready”!", "the kettle it’s ready")]) == (0, 4)


def test_contractions_are_not_expanded() -> None:
    assert count_errors([("it is", "it's")]) == (2, 2)


def test_substitutions_deletions_and_insertions_are_errors() -> None:
    assert count_errors([("a b c d", "a x c d"), ("b c d", "b d"), ("b c", "b c d"), ("", "b")]) == (4, 9)


def test_distance_aligns_words() -> None:
    assert distance(["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "on", "a", "mat", "today"]) == 3
    assert distance([], ["a"]) == distance(["a"], []) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_digits_and_all_spellings_of_a_number_are_equal(language: str) -> None:
    for number in [*range(300), *range(300, LARGEST, 7), LARGEST]:
        assert normalise(str(number), language) == [str(number)]
        for words in spellings(number, language):
            assert normalise(words, language) == [str(number)], words


@pytest.mark.parametrize(
    ("language", "words", "digits"),
    [
        ("en", "In nineteen eighty-seven, twenty-three men", "In 1987, 23 men"),
        ("en", "in twenty twelve at seven thirty", "in 2012 at 7:30"),
        ("en", "at ten fifteen or seven oh five", "at 10:15 or 7.05"),
        ("en", "at eight forty-five from platform five", "at 845 from platform 5"),
        ("en", "at nine o'clock", "at 9:00"),
        ("en", "one thousand two hundred and fifty dollars", "$1,250"),
        ("en", "twelve per cent of three point five", "12% of 3.5"),
        ("en", "a hundred and one a day", "101 a day"),
        ("en", "two thousand people", "2 thousand people"),
        ("de", "um neun Uhr, dreißig Euro und siebentausendachthundert Gäste", "um 9 Uhr, 30 € und 7.800 Gäste"),
        ("es", "veintiún libros, treinta y una sillas y quinientas cartas", "21 libros, 31 sillas y 500 cartas"),
        ("fr", "à neuf heures, quatre-vingt-onze euros, mille deux cents", "à 9h, 91 €, 1 200"),
    ],
)
def test_digits_and_number_words_are_equal_within_sentences(language: str, words: str, digits: str) -> None:
    assert normalise(words, language) == normalise(digits, language)


@pytest.mark.parametrize(("one", "other"), [("seven thirty", "7:13"), ("sixty", "16"), ("twenty twelve", "2021")])
def test_different_numbers_stay_different(one: str, other: str) -> None:
    assert count_errors([(one, other)])[0] > 0


def test_number_words_of_another_language_are_words() -> None:
    assert normalise("drei two", "en") == ["drei", "2"]
    assert normalise("two 2", "fi") == ["two", "2"]


def test_numbers_above_the_largest_stay() -> None:
    assert normalise("12345 and 1,234,567") == ["12345", "and", "1234567"]


def test_letters_of_every_script_are_kept() -> None:
    assert normalise("Ｓtraße, É́cole; привет!", "de") == ["strasse", "é́cole", "привет"]
    assert normalise("नमस्ते दुनिया।", "hi") == ["नमस्ते", "दुनिया"]
    assert normalise("東京です。", "ja") == ["東", "京", "で", "す"]


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert count_errors([("se\u0301", "s\u00e9")]) == (0, 1)


def test_spelled_numbers_are_the_most_common_words() -> None:
    assert [spell(71, language) for language in LANGUAGES] == [
        "seventy-one",
        "einundsiebzig",
        "setenta y uno",
        "soixante et onze",
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("no no no no", 0),
        ("No, no, no. No! No?", 1),
        ("I know. " * 5, 1),
        ("thank you so much " * 7 + "and " + "bye " * 6, 2),
        ("one two three four five " * 9, 0),
        ("la " * 50, 1),
    ],
)
def test_loops_are_one_to_four_words_five_times_in_a_row(text: str, count: int) -> None:
    assert count_loops(text) == count


def test_the_language_is_part_of_the_file_name() -> None:
    assert language_of("espeak_de_de.m3-140_0001.flac") == "de"
    assert language_of("sentences.flac") == language_of("a_xx_b_c.flac") == "en"


def test_each_file_is_scored_in_its_language_and_files_without_text_are_skipped() -> None:
    texts = {"joe_en_1.0-0.5_0000.flac": "two days", "espeak_de_de-140_0000.flac": "zwei Tage", "short": "yes"}
    transcripts = {
        "joe_en_1.0-0.5_0000.flac": "2 days",
        "espeak_de_de-140_0000.flac": "2 Tage",
        "short.flac": "no",
        "x": "x",
    }
    assert score(texts, transcripts.items()) == (1, 5, 0)
