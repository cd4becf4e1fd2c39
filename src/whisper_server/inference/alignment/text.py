"""A transcript as segments and words, with their tokens, and what two spellings of the same speech have in common."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import merge_punctuations

SegmentUnit: TypeAlias = Literal["sentence", "line"]

# faster-whisper's defaults for the punctuation that belongs to the next and to the previous word.
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_CLOSING = "\"'”’»)]"
_SENTENCE_END = (".", "!", "?", "…")
_WIDE_SENTENCE_END = re.compile(r"(?<=[。！？])(?![。！？」』”’）])")
# The languages that faster-whisper splits into characters, as they are written without spaces.
_UNSPACED_LANGUAGES = {"zh", "ja", "th", "lo", "my", "yue"}
# Thai, Lao, Burmese, Khmer, kana and Chinese characters, each of which is compared alone.
_UNSPACED = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
# Between the two characters that begin every special token, which is no such token if they are encoded apart.
_IN_SPECIAL_TOKEN = re.compile(r"(?<=<)(?=\|)")


@dataclass(frozen=True, slots=True)
class TextWord:
    """A word of segment number `segment`, with its punctuation and the space before it.

    `spoken` is the range of `tokens` without the punctuation.
    """

    text: str
    tokens: tuple[int, ...]
    spoken: tuple[int, int]
    segment: int


def split_segments(text: str, unit: SegmentUnit) -> list[str]:
    """Return the lines of a text, or its sentences, which also end with a line; white space is normalised."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    segments = lines if unit == "line" else [sentence for line in lines for sentence in _sentences(line)]
    return [segment for segment in segments if segment]


def split_words(segments: list[str], tokenizer: Tokenizer) -> list[TextWord]:
    """Return the words of all segments in order, grouped as faster-whisper groups those that it transcribes."""
    space = "" if tokenizer.language_code in _UNSPACED_LANGUAGES else " "
    return [word for number, text in enumerate(segments) for word in _words(space + text, tokenizer, number)]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text, in which names of special tokens are text like any other."""
    return [token for part in _IN_SPECIAL_TOKEN.split(text) for token in tokenizer.encode(part)]


def comparable_units(text: str) -> list[str]:
    """Return the letters and digits of a word in lower case, divided at punctuation.

    In scripts without spaces, each character is a unit.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    letters = "".join(character if unicodedata.category(character)[0] in "LMN" else " " for character in folded)
    return _UNSPACED.sub(r" \1 ", letters).split()


def _sentences(line: str) -> Iterator[str]:
    for part in _WIDE_SENTENCE_END.split(line):
        sentence: list[str] = []
        words = part.split()
        for word, following in zip_longest(words, words[1:], fillvalue=""):
            sentence.append(word)
            if _ends_sentence(word, following):
                yield " ".join(sentence)
                sentence = []
        yield " ".join(sentence)


def _ends_sentence(word: str, following: str) -> bool:
    """Numbers (3.), initials (J.) and words before one in lower case do not end a sentence."""
    bare = word.rstrip(_CLOSING)
    if not bare.endswith(_SENTENCE_END) or following[:1].islower():
        return False
    return not bare.endswith(".") or not (len(bare) == 2 or bare[:-1].isdecimal())


def _words(text: str, tokenizer: Tokenizer, segment: int) -> Iterator[TextWord]:
    texts, groups = tokenizer.split_to_word_tokens(encode(tokenizer, text))
    # faster-whisper merges the lists; each token is marked with its group to tell the punctuation afterwards.
    merged: list[dict[str, Any]] = [
        {"word": word, "tokens": [(token, number) for token in group]}
        for number, (word, group) in enumerate(zip(texts, groups, strict=True))
    ]
    merge_punctuations(merged, _PREPENDED, _APPENDED)
    for number, word in enumerate(merged):
        if word["word"]:
            own = [i for i, (_, group) in enumerate(word["tokens"]) if group == number]
            spoken = (own[0], own[-1] + 1)
            yield TextWord(word["word"], tuple(token for token, _ in word["tokens"]), spoken, segment)
