"""Tokens as clients see them: text, bytes and log probability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment

# What 32-bit floats call 0 has no logarithm.
_LEAST_PROBABILITY = 1e-38


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token of text. Its bytes may be a part of a character only; the bytes of all tokens are the text's UTF-8."""

    content: bytes
    log_probability: float

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


@dataclass
class ScoredSegment(Segment):  # type: ignore[misc]  # faster-whisper ships no type information
    scores: list[TokenScore]


def scored(whisper: WhisperModel, segments: Iterable[Segment]) -> Iterator[ScoredSegment]:
    """Add the scores of its text tokens to each segment that `whisper`, a request's model, has just decoded."""
    end_of_text = whisper.hf_tokenizer.token_to_id("<|endoftext|>")
    for segment in segments:
        tokens = [token for token in segment.tokens if token < end_of_text]
        probabilities = whisper.model.token_probabilities(segment)
        scores = [_score(whisper, *pair) for pair in zip(tokens, probabilities, strict=True)]
        yield ScoredSegment(**vars(segment), scores=scores)


def count_tokens(whisper: WhisperModel, text: str) -> int:
    return len(whisper.hf_tokenizer.encode(" " + text.strip(), add_special_tokens=False)) if text.strip() else 0


def _score(whisper: WhisperModel, token: int, probability: float) -> TokenScore:
    return TokenScore(_content(whisper.hf_tokenizer, token), math.log(max(probability, _LEAST_PROBABILITY)))


def _content(tokenizer: Any, token: int) -> bytes:
    """Byte-level vocabularies write each byte as one character: itself if it can be seen, or one from U+0100 on."""
    return bytes(_byte(character) for character in tokenizer.id_to_token(token))


def _byte(character: str) -> int:
    code = ord(character)
    return code if code < 0x100 else _UNSEEN[code - 0x100]


_UNSEEN = [*range(0x21), *range(0x7F, 0xA1), 0xAD]
