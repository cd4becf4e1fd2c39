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

from whisper_server.inference.audio.waveform import Samples
from whisper_server.inference.runtime import adaptive_window
from whisper_server.inference.transcription.segments import Word

_HOP = 160  # samples per frame
_MIN_SAMPLES = 1600  # 0.1 s; `align` needs a few frames
# The most tokens that a window's text may have, prefix included: more than what counts as a loop (adaptive_window.py).
_TOKENS_PER_SECOND = 15
_EXTRA_TOKENS = 24
# Whisper was trained with up to 223 tokens of previous text; live windows need few. Decoders with equally many tokens
# before their text can run as one batch, so a window gets exactly this many tokens of previous speech, or none.
CONTEXT_TOKENS = 16
_MAX_PROMPT_TOKENS = 112
_MAX_LENGTH = 448
_TRAILING_PUNCTUATION = set(punctuation + "。，！？：、…”’") - {"(", "[", "{", "$", "#", "@"}


@dataclass(frozen=True, slots=True)
class AlignedWord(Word):
    """A word whose times count from the window's first sample.

    `tokens` belong to a vocabulary of `vocabulary` tokens; for a model with another one the text is tokenized again.
    """

    tokens: tuple[int, ...]
    vocabulary: int = 0

    def shifted(self, seconds: float) -> AlignedWord:
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True, slots=True)
class DecodeWindow:
    """Mono `samples` at 16 kHz, shape (n,), that begin with the words of `prefix`; `context` is what came before them.

    `prompt` is text that the session's client supplied. Without a `language` the model detects it.
    """

    samples: Samples
    language: str | None = None
    prompt: str = ""
    context: tuple[AlignedWord, ...] = ()
    prefix: tuple[AlignedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`words` follow those of the prefix; `looping` says that they repeat themselves even with the full window.

    `language_probability` is 1 if the language was given. `log_probability` is the average over the tokens.
    """

    words: tuple[AlignedWord, ...]
    language: str
    language_probability: float
    no_speech_prob: float
    log_probability: float
    looping: bool = False


def decode_window(whisper: WhisperModel, window: DecodeWindow) -> Hypothesis:
    """Decode greedily; `whisper` is a request's model with the adaptive window. Raises Cancelled."""
    samples = np.pad(window.samples, (0, max(0, _MIN_SAMPLES - len(window.samples))))
    frames = len(samples) // _HOP
    features = whisper.feature_extractor(samples)[:, :frames]
    output = whisper.model.encode(_padded(features))
    language, language_probability = _language(whisper, output, window.language)
    tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language)
    prompt, prefix = _prompt(tokenizer, window)
    result = _generate(whisper, tokenizer, output, [*prompt, *prefix], len(prompt), frames)
    text = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
    return Hypothesis(
        words=tuple(_words(whisper, tokenizer, output, text, len(prefix), frames)),
        language=language,
        language_probability=language_probability,
        no_speech_prob=result.no_speech_prob,
        log_probability=result.scores[0] * len(text) / (len(text) + 1),
        looping=adaptive_window.repeats(text),
    )


def _padded(features: Samples) -> StorageView:
    """A window of 30 s, shape (1, mels, 3000), padded with zeros as faster-whisper does."""
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


def _prompt(tokenizer: Tokenizer, window: DecodeWindow) -> tuple[list[int], list[int]]:
    """The tokens before the text, and those that the text begins with."""
    context, prefix = (_tokens(tokenizer, words) for words in (window.context, window.prefix))
    given = tokenizer.encode(" " + window.prompt.strip()) if window.prompt.strip() else []
    before = [*given[-_MAX_PROMPT_TOKENS:], *(context[-CONTEXT_TOKENS:] if len(context) >= CONTEXT_TOKENS else [])]
    previous = [tokenizer.sot_prev, *before] if before else []
    return [*previous, *tokenizer.sot_sequence, tokenizer.no_timestamps], prefix


def _tokens(tokenizer: Tokenizer, words: Sequence[AlignedWord]) -> list[int]:
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    if all(word.vocabulary == vocabulary for word in words):
        return [token for word in words for token in word.tokens]
    encoded: list[int] = tokenizer.encode("".join(word.text for word in words))
    return encoded


def _generate(
    whisper: WhisperModel, tokenizer: Tokenizer, output: StorageView, prompt: list[int], before: int, frames: int
) -> Any:
    """Windows of one length get one token limit, so that they can be decoded as a batch."""
    limit = math.ceil(adaptive_window.max_audio_frames(frames) / 100 * _TOKENS_PER_SECOND) + _EXTRA_TOKENS
    (result,) = whisper.model.generate(
        output,
        [prompt],
        beam_size=1,
        max_length=min(_MAX_LENGTH, max(2 * limit, before + limit)),
        suppress_blank=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        return_scores=True,
        return_no_speech_prob=True,
    )
    return result


def _words(
    whisper: WhisperModel, tokenizer: Tokenizer, output: StorageView, text: list[int], prefix: int, frames: int
) -> list[AlignedWord]:
    """The words after the first `prefix` tokens."""
    if len(text) <= prefix:
        return []
    (alignment,) = whisper.find_alignment(tokenizer, [text], output, frames)
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    words: list[AlignedWord] = []
    position = 0
    for word in alignment:
        tokens, position = tuple(word["tokens"][max(0, prefix - position) :]), position + len(word["tokens"])
        if not tokens:
            continue
        content = word["word"] if len(tokens) == len(word["tokens"]) else tokenizer.decode(tokens)
        start, end, probability = (float(word[name]) for name in ("start", "end", "probability"))
        _append(words, AlignedWord(content, start, end, probability, tokens, vocabulary))
    return words


def _append(words: list[AlignedWord], word: AlignedWord) -> None:
    """Punctuation belongs to the word before it, or at the beginning to the word after it."""
    if words and not words[-1].text.strip(punctuation + " ") and len(words) == 1:
        first = words.pop()
        word = replace(word, text=first.text + word.text, tokens=first.tokens + word.tokens)
    elif words and not word.text.startswith(" ") and set(word.text) <= _TRAILING_PUNCTUATION:
        last = words.pop()
        word = replace(last, text=last.text + word.text, tokens=last.tokens + word.tokens)
    words.append(word)
