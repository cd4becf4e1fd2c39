"""Confirms words that stay the same while more audio is decoded: LocalAgreement-2 of Whisper-Streaming.

Only the words after the last confirmed one are compared, so confirmed words never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import punctuation

from whisper_server.inference.transcription.streaming import AlignedWord

_PUNCTUATION = punctuation + "。，！？：、…“”‘’«»¿¡ "


@dataclass(frozen=True, slots=True)
class ConfirmationPolicy:
    """The age, in seconds since its end, at which a word is confirmed.

    A word that two hypotheses in a row contain: `agreed_age`, or `unlikely_age` if it is less probable than `unlikely`.
    A word of one hypothesis: `likely_age` if it has at least the probability `likely`, or `behind_age` if the server is
    behind and cannot decode twice. The figures were chosen by hand; docs/performance.md, "Live", has the delays and
    word error rates that they give.
    """

    agreed_age: float = 0.3
    unlikely: float = 0.5
    unlikely_age: float = 1.2
    likely: float = 0.9
    likely_age: float = 0.9
    behind_age: float = 1.0


class LocalAgreement:
    """`pending` are the words of the last hypothesis that are not confirmed."""

    def __init__(self, policy: ConfirmationPolicy) -> None:
        self._policy = policy
        self.pending: tuple[AlignedWord, ...] = ()

    def update(self, words: Sequence[AlignedWord], now: float, *, behind: bool = False) -> tuple[AlignedWord, ...]:
        """Return the words of a new hypothesis that are confirmed. `now` is the end of its window, in seconds."""
        agreed = common_prefix_length(self.pending, words)
        confirmed = 0
        # The word after the last one may still change it.
        for index, word in enumerate(words[:-1]):
            if not self._is_confirmed(word, now - word.end, index < agreed, behind):
                break
            confirmed += 1
        self.pending = tuple(words[confirmed:])
        return tuple(words[:confirmed])

    def take(self, count: int) -> tuple[AlignedWord, ...]:
        """Confirm the first pending words as they are and return them."""
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def _is_confirmed(self, word: AlignedWord, age: float, agreed: bool, behind: bool) -> bool:
        policy = self._policy
        if agreed and age >= (policy.agreed_age if word.probability >= policy.unlikely else policy.unlikely_age):
            return True
        if behind and age >= policy.behind_age:
            return True
        return word.probability >= policy.likely and age >= policy.likely_age


def common_prefix_length(previous: Sequence[AlignedWord], current: Sequence[AlignedWord]) -> int:
    """Return how many words both begin with, ignoring case and punctuation."""
    count = 0
    for one, other in zip(previous, current, strict=False):
        if normalise(one.text) != normalise(other.text):
            break
        count += 1
    return count


def normalise(text: str) -> str:
    return text.strip(_PUNCTUATION).casefold()
