"""One decoding of a live session's window: samples in, words with times out.

The decoder is forced to begin its text with the words that are confirmed already, so it can only continue them. Windows
are encoded short (adaptive_window.py); RequestModel decodes a suspicious one again with the full window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import punctuation
from typing import Any

import numpy as np
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from numpy.typing import NDArray

from whisper_server.inference.runtime import adaptive_window

_HOP = 160  # samples a frame
_SHORTEST = 1600  # in less nothing can be aligned
# What a window's text may have, tokens of the prefix included; more than what is taken for a loop (adaptive_window.py).
_TOKENS_PER_SECOND = 15
_TOKENS_TO_START = 24
# Whisper was trained with at most 223 tokens of text before; sessions need few. Decoders with as many tokens before
# their text can run as a batch, so it is exactly so many of what was said, or none.
CONTEXT = 16
_LONGEST_PROMPT = 112
_APPENDED = set(punctuation + "。，！？：、…”’") - {"(", "[", "{", "$", "#", "@"}


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word as the model wrote it, with its space; seconds since the window's first sample.

    Tokens are those of a vocabulary of so many; for a model with another one the word is tokenised again.
    """

    text: str
    start: float
    end: float
    probability: float
    tokens: tuple[int, ...]
    vocabulary: int = 0

    def moved(self, seconds: float) -> AlignedWord:
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True, slots=True)
class DecodeWindow:
    """`samples` at 16 kHz that begin with the words of `prefix`; `context` is text from before them."""

    samples: NDArray[np.float32]
    language: str | None = None
    prompt: str = ""
    context: tuple[AlignedWord, ...] = ()
    prefix: tuple[AlignedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`words` follow those of the prefix. `looping` ones repeat themselves even with the full window."""

    words: tuple[AlignedWord, ...]
    language: str
    certainty: float
    no_speech: float
    log_probability: float
    looping: bool = False


def decode_window(whisper: WhisperModel, passage: DecodeWindow) -> Hypothesis:
    """Decode greedily; `whisper` is a request's view with the adaptive window. Raises Cancelled."""
    samples = np.pad(passage.samples, (0, max(0, _SHORTEST - len(passage.samples))))
    frames = len(samples) // _HOP
    features = whisper.feature_extractor(samples)[:, :frames]
    output = whisper.model.encode(_window(features))
    language, certainty = _language(whisper, output, passage.language)
    tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language)
    prompt, prefix = _prompt(tokenizer, passage)
    result = _generated(whisper, tokenizer, output, [*prompt, *prefix], len(prompt), frames)
    text = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
    return Hypothesis(
        words=tuple(_words(whisper, tokenizer, output, text, len(prefix), frames)),
        language=language,
        certainty=certainty,
        no_speech=result.no_speech_prob,
        log_probability=result.scores[0] * len(text) / (len(text) + 1),
        looping=adaptive_window.repeats(text),
    )


def _window(features: NDArray[np.float32]) -> StorageView:
    """A window of 30 s as faster-whisper pads it."""
    padded = np.zeros((1, features.shape[0], adaptive_window.FULL), np.float32)
    padded[0, :, : features.shape[1]] = features[:, : adaptive_window.FULL]
    return StorageView.from_array(padded)


def _language(whisper: WhisperModel, output: StorageView, given: str | None) -> tuple[str, float]:
    if not whisper.model.is_multilingual:
        return "en", 1.0
    if given is not None:
        return given, 1.0
    token, probability = whisper.model.detect_language(output)[0][0]
    return token[2:-2], probability


def _prompt(tokenizer: Tokenizer, passage: DecodeWindow) -> tuple[list[int], list[int]]:
    """What is before the text, and the beginning of the text."""
    context, prefix = (_tokens(tokenizer, words) for words in (passage.context, passage.prefix))
    given = tokenizer.encode(" " + passage.prompt.strip()) if passage.prompt.strip() else []
    before = [*given[-_LONGEST_PROMPT:], *(context[-CONTEXT:] if len(context) >= CONTEXT else [])]
    previous = [tokenizer.sot_prev, *before] if before else []
    return [*previous, *tokenizer.sot_sequence, tokenizer.no_timestamps], prefix


def _tokens(tokenizer: Tokenizer, words: Sequence[AlignedWord]) -> list[int]:
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    if all(word.vocabulary == vocabulary for word in words):
        return [token for word in words for token in word.tokens]
    encoded: list[int] = tokenizer.encode("".join(word.text for word in words))
    return encoded


def _generated(
    whisper: WhisperModel, tokenizer: Tokenizer, output: StorageView, prompt: list[int], before: int, frames: int
) -> Any:
    """Windows of one length get one limit, so that they can be decoded as a batch."""
    longest = math.ceil(adaptive_window.max_audio_frames(frames) / 100 * _TOKENS_PER_SECOND) + _TOKENS_TO_START
    (result,) = whisper.model.generate(
        output,
        [prompt],
        beam_size=1,
        max_length=min(448, max(2 * longest, before + longest)),
        suppress_blank=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        return_scores=True,
        return_no_speech_prob=True,
    )
    return result


def _words(
    whisper: WhisperModel, tokenizer: Tokenizer, output: StorageView, text: list[int], known: int, frames: int
) -> list[AlignedWord]:
    """The words after so many known tokens."""
    if len(text) <= known:
        return []
    (aligned,) = whisper.find_alignment(tokenizer, [text], output, frames)
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    words: list[AlignedWord] = []
    at = 0
    for word in aligned:
        tokens, at = tuple(word["tokens"][max(0, known - at) :]), at + len(word["tokens"])
        if not tokens:
            continue
        text_of = word["word"] if len(tokens) == len(word["tokens"]) else tokenizer.decode(tokens)
        start, end, probability = (float(word[name]) for name in ("start", "end", "probability"))
        _append(words, AlignedWord(text_of, start, end, probability, tokens, vocabulary))
    return words


def _append(words: list[AlignedWord], word: AlignedWord) -> None:
    """Signs belong to the word before them; those that nothing is before, to the one after."""
    if words and not words[-1].text.strip(punctuation + " ") and len(words) == 1:
        first = words.pop()
        word = replace(word, text=first.text + word.text, tokens=first.tokens + word.tokens)
    elif words and not word.text.startswith(" ") and set(word.text) <= _APPENDED:
        last = words.pop()
        word = replace(last, text=last.text + word.text, tokens=last.tokens + word.tokens)
    words.append(word)
