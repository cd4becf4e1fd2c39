"""Writes one phrase down: which of its audio to decode next, and what of the result is certain.

A phrase is what is spoken between two pauses. It is decoded again and again as it grows, in windows that begin with
words that are certain already. All positions are samples of the session, so what is decided depends on the sound and
not on when it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.transcription.streaming import CONTEXT_TOKENS, AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.local_agreement import ConfirmationPolicy, LocalAgreement
from whisper_server.live.sample_buffer import SampleBuffer
from whisper_server.live.segmenter import SpeechSegment

# Steps that are longer than planned end at multiples of this.
_GRID = SAMPLE_RATE // 10
# With so much silence after it the end of speech is decoded well enough.
_TAIL = SAMPLE_RATE // 10
# What is heard in noise: the model itself says that it is no speech, and is not sure of the words.
_NO_SPEECH = 0.6
_UNSURE = -1.0
# Nobody says so many words in so many seconds. Words that the model adds after the sound have only its end to be in.
_WORDS = 3
_TOO_FAST = 0.15
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")


@dataclass(frozen=True, slots=True)
class DecodeSchedule:
    """In seconds. A phrase is first decoded after `first`, then after each `step`.

    A window that is longer than `window` is cut so that certain words of `keep` seconds remain. If nothing was certain
    for `patience`, what was heard is taken. No window is longer than `longest`. A server is behind if a step was longer
    than `behind`.
    """

    first: float = 0.95
    step: float = 0.5
    window: float = 7.5
    keep: float = 2.0
    patience: float = 12.0
    longest: float = 24.0
    behind: float = 3.0
    policy: ConfirmationPolicy = field(default_factory=ConfirmationPolicy)


class PhraseDecoder:
    """`decoded` is up to where the phrase has been decoded."""

    def __init__(self, pace: DecodeSchedule, phrase: SpeechSegment, context: Sequence[AlignedWord] = ()) -> None:
        self._pace = pace
        self.phrase = phrase
        self.decoded = phrase.start
        self._cut = phrase.start
        self._context = tuple(context)
        self._prefix: list[AlignedWord] = []
        self._agreement = LocalAgreement(pace.policy)
        self._certain_at = phrase.start

    @property
    def pending(self) -> tuple[AlignedWord, ...]:
        return self._agreement.pending

    @property
    def needed(self) -> int:
        """Samples before this one are not."""
        return self._cut

    @property
    def finished(self) -> bool:
        """Whether the phrase is over and all of it decoded."""
        return self.phrase.over and self._covered

    @property
    def _covered(self) -> bool:
        phrase = self.phrase
        if phrase.sound_end is None:
            return False
        enough = phrase.sound_end if phrase.quiet is None else min(phrase.sound_end, phrase.quiet + _TAIL)
        return self.decoded >= enough

    def due(self, heard: int) -> int | None:
        """Up to where to decode now, or None if that is not worth it."""
        longest = self._cut + _samples(self._pace.longest)
        if self.phrase.sound_end is not None:
            return None if self._covered else min(self.phrase.sound_end, longest)
        step = _samples(self._pace.first if self.decoded == self.phrase.start else self._pace.step)
        new = heard - self.decoded
        if new < step:
            return None
        if new >= step + step // 2:
            step = new // _GRID * _GRID
        return min(self.decoded + step, longest)

    def passage(self, buffer: SampleBuffer, position: int, *, language: str | None, prompt: str) -> DecodeWindow:
        """What to decode to get there."""
        return DecodeWindow(
            buffer.between(self._cut, position),
            language=language,
            prompt=prompt,
            context=self._context,
            prefix=tuple(self._prefix),
        )

    def take(self, heard: Hypothesis, position: int, *, preview: bool = False) -> tuple[AlignedWord, ...]:
        """Note what was heard up to there and return the words that have become certain by it; in a preview none do."""
        step, self.decoded = position - self.decoded, position
        now = position / SAMPLE_RATE
        words = self._plausible(heard)
        if words is None:
            return ()
        if preview:
            self._agreement.pending = tuple(words)
            return ()
        behind = step > _samples(self._pace.behind)
        certain = self._agreement.update(words, now, behind=behind) or self._overdue(position)
        self._prefix.extend(certain)
        if certain:
            self._certain_at = position
        self._shorten(position)
        return certain

    def _overdue(self, position: int) -> tuple[AlignedWord, ...]:
        """What hearings cannot agree on for long is taken as it is, but for what is still new."""
        if position - max(self._certain_at, self._cut) <= _samples(self._pace.patience):
            return ()
        latest = position / SAMPLE_RATE - self._pace.keep
        new = (at for at, word in enumerate(self.pending) if word.end > latest)
        return self._agreement.take(next(new, len(self.pending)))

    def finish(self) -> tuple[AlignedWord, ...]:
        """The phrase is over: the rest is certain, too."""
        rest = self._agreement.take(len(self.pending))
        if rest and self.phrase.end is not None:
            end = max(rest[-1].start, min(rest[-1].end, self.phrase.end / SAMPLE_RATE))
            rest = (*rest[:-1], replace(rest[-1], end=end))
        self._prefix.extend(rest)
        return rest

    def split(self) -> int | None:
        """Give up what is not certain and return where that begins, or None if nothing is certain."""
        if not self._prefix:
            return None
        self._agreement.pending = ()
        return min(max(self._cut, _samples(self._prefix[-1].end)), self.decoded)

    def context(self) -> tuple[AlignedWord, ...]:
        """The last words, for the phrase that follows."""
        return (*self._context, *self._prefix)[-CONTEXT_TOKENS:]

    def _plausible(self, heard: Hypothesis) -> list[AlignedWord] | None:
        """The words, in the session's time, without what was made up; None if they say nothing."""
        if heard.looping:
            return None
        if heard.no_speech_prob > _NO_SPEECH and heard.log_probability < _UNSURE:
            return []
        words = [word.shifted(self._cut / SAMPLE_RATE) for word in heard.words]
        return pronounceable(words)

    def _shorten(self, position: int) -> None:
        """Cut a long window between certain words, after a sentence if one ends there."""
        if position - self._cut <= _samples(self._pace.window):
            return
        latest = self._prefix[-1].end - self._pace.keep if self._prefix else 0.0
        places = [i for i in range(1, len(self._prefix) - 1) if self._prefix[i].start <= latest]
        if places:
            sentences = (i for i in reversed(places) if self._prefix[i - 1].text.endswith(_SENTENCE_ENDS))
            place = next(sentences, places[-1])
            gap = (self._prefix[place - 1].end + self._prefix[place].start) / 2
            self._cut_before(place, _samples(gap), position)
        elif position - self._cut > _samples(self._pace.patience + self._pace.keep):
            self._cut_after_everything(position)

    def _cut_after_everything(self, position: int) -> None:
        """Nothing was certain for long: go on with the last seconds, or with the first word that is not certain."""
        cut = position - _samples(self._pace.keep)
        if self.pending:
            cut = min(cut, _samples(self.pending[0].start))
        self._cut_before(len(self._prefix), max(cut, position - _samples(self._pace.patience)), position)

    def _cut_before(self, place: int, cut: int, position: int) -> None:
        self._cut = min(max(self._cut, cut), position)
        self._context = (*self._context, *self._prefix[:place])[-CONTEXT_TOKENS:]
        self._prefix = self._prefix[place:]


def pronounceable(words: Sequence[AlignedWord]) -> list[AlignedWord]:
    """The words up to those that come faster than anybody can speak."""
    for at in range(len(words) - _WORDS + 1):
        if words[at + _WORDS - 1].end - words[at].start < _TOO_FAST:
            return list(words[:at])
    return list(words)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
