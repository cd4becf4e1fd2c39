"""Which of the words that were heard are certain: those that stay the same as more is heard.

Only what follows the last certain word is weighed, so certain words can be added to and never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import punctuation

from whisper_server.inference.transcription.streaming import AlignedWord

_SIGNS = punctuation + "。，！？：、…“”‘’«»¿¡ "


@dataclass(frozen=True, slots=True)
class ConfirmationPolicy:
    """In seconds: two hearings in a row that agree on a word make it certain if it ended `hold` ago.

    A word that is less probable than `unsure` has to have ended `unsure_hold` ago.

    One hearing does if it is at least that probable, and ended `sure_hold` ago; so it does, whatever the probability,
    `behind_hold` ago, where the server is behind and there is no time to hear twice.
    """

    hold: float = 0.3
    unsure: float = 0.5
    unsure_hold: float = 1.2
    sure: float = 0.9
    sure_hold: float = 0.9
    behind_hold: float = 1.0


class LocalAgreement:
    def __init__(self, policy: ConfirmationPolicy) -> None:
        self._policy = policy
        self.pending: tuple[AlignedWord, ...] = ()

    def update(self, words: Sequence[AlignedWord], now: float, *, behind: bool = False) -> tuple[AlignedWord, ...]:
        """Return the words that are certain now; the others are `pending` until the next hearing."""
        agreed = common(self.pending, words)
        certain = 0
        # What comes after the last word may still change it.
        for at, word in enumerate(words[:-1]):
            if not self._is_certain(word, now - word.end, at < agreed, behind):
                break
            certain += 1
        self.pending = tuple(words[certain:])
        return tuple(words[:certain])

    def take(self, count: int) -> tuple[AlignedWord, ...]:
        """Make the first pending words certain as they are."""
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def _is_certain(self, word: AlignedWord, age: float, agreed: bool, behind: bool) -> bool:
        hold = self._policy.hold if word.probability >= self._policy.unsure else self._policy.unsure_hold
        if agreed and age >= hold:
            return True
        if behind and age >= self._policy.behind_hold:
            return True
        return word.probability >= self._policy.sure and age >= self._policy.sure_hold


def common(before: Sequence[AlignedWord], now: Sequence[AlignedWord]) -> int:
    """With how many words both begin, whatever their case and signs."""
    count = 0
    for one, other in zip(before, now, strict=False):
        if normalised(one.text) != normalised(other.text):
            break
        count += 1
    return count


def normalised(text: str) -> str:
    return text.strip(_SIGNS).casefold()
