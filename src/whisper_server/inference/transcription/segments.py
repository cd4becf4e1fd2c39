"""Segments and words of a transcript, for files and for live sessions.

faster-whisper's own classes are mutable and carry no types; `from_faster_whisper` is where they end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Word:
    """`text` keeps the space before the word, so that the words joined are the text. Times are in seconds."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A text token and its natural log probability. Its bytes may be an incomplete character."""

    content: bytes
    log_probability: float

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as openai-whisper has it, without its `id`, which is its position in the transcript.

    `start` and `end` are seconds, `seek` is the start of its 30-second window in frames of 10 ms. `tokens` include
    timestamps. `words` and `scores` (of text tokens only) are None unless they were requested.
    """

    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    temperature: float
    words: list[Word] | None = None
    scores: list[TokenScore] | None = None

    def shifted(self, seconds: float) -> Segment:
        """Return the segment as it is in audio that begins `seconds` earlier."""
        words = [
            replace(word, start=_later(word.start, seconds), end=_later(word.end, seconds)) for word in self.words or ()
        ]
        return replace(
            self,
            seek=self.seek + round(seconds * 100),
            start=_later(self.start, seconds),
            end=_later(self.end, seconds),
            words=None if self.words is None else words,
        )


def from_faster_whisper(segment: Any) -> Segment:
    """Return a `faster_whisper.transcribe.Segment` with plain Python numbers, of the same values."""
    return Segment(
        seek=int(segment.seek),
        start=float(segment.start),
        end=float(segment.end),
        text=segment.text,
        tokens=list(segment.tokens),
        avg_logprob=float(segment.avg_logprob),
        compression_ratio=float(segment.compression_ratio),
        no_speech_prob=float(segment.no_speech_prob),
        temperature=float(segment.temperature),
        words=None if segment.words is None else [_word(word) for word in segment.words],
    )


def text_of(words: Iterable[Word]) -> str:
    return "".join(word.text for word in words)


def _word(word: Any) -> Word:
    return Word(word.word, float(word.start), float(word.end), float(word.probability))


def _later(time: float, seconds: float) -> float:
    return round(time + seconds, 3)
