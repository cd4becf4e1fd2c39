"""Log probabilities of text tokens, for clients that ask for `logprobs`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from faster_whisper import WhisperModel

from whisper_server.inference.transcription.segments import Segment, TokenScore

# A probability of 0 has no logarithm; this is about the smallest normal 32-bit float.
_MIN_PROBABILITY = 1e-38


def with_scores(whisper: WhisperModel, segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield each segment with the scores of its text tokens.

    `whisper` is the request's model, which must have decoded the segment just before: it keeps one window's attempts.
    """
    end_of_text = whisper.hf_tokenizer.token_to_id("<|endoftext|>")
    for segment in segments:
        tokens = [token for token in segment.tokens if token < end_of_text]
        probabilities = whisper.model.token_probabilities(segment.tokens, segment.avg_logprob)
        scores = [
            TokenScore(_token_bytes(whisper.hf_tokenizer, token), math.log(max(probability, _MIN_PROBABILITY)))
            for token, probability in zip(tokens, probabilities, strict=True)
        ]
        yield replace(segment, scores=scores)


def count_tokens(whisper: WhisperModel, text: str) -> int:
    return len(whisper.hf_tokenizer.encode(" " + text.strip(), add_special_tokens=False)) if text.strip() else 0


def _token_bytes(tokenizer: Any, token: int) -> bytes:
    """Byte-level BPE writes each byte as one character: itself if it is printable, otherwise one from U+0100 on."""
    return bytes(_byte(character) for character in tokenizer.id_to_token(token))


def _byte(character: str) -> int:
    code = ord(character)
    return code if code < 0x100 else _UNPRINTABLE_BYTES[code - 0x100]


_UNPRINTABLE_BYTES = [*range(0x21), *range(0x7F, 0xA1), 0xAD]
