"""Decodes one segment of speech: which window to decode next, and which words of the result are confirmed.

A segment is decoded again and again as it grows, in windows that begin with words that are confirmed already. All
positions are samples of the session, so the result depends on the audio and not on when it arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.inference.transcription.streaming import CONTEXT_TOKENS, AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.local_agreement import ConfirmationPolicy, LocalAgreement
from whisper_server.live.sample_buffer import SampleBuffer, to_samples
from whisper_server.live.segmenter import SpeechSegment

# Samples (0.1 s). A late step is a multiple of this, whatever the frames in which the audio arrived.
_STEP_GRID = SAMPLE_RATE // 10
# Samples (0.1 s). A window with this much silence after the speech need not be decoded again when the speech stops.
_DECODED_SILENCE = SAMPLE_RATE // 10
# Whisper's default thresholds for a window without speech: `no_speech_threshold` and `logprob_threshold`.
_NO_SPEECH_THRESHOLD = 0.6
_LOG_PROBABILITY_THRESHOLD = -1.0
# Nobody says three words in 0.15 s. Words that the model adds after the audio are all aligned to its last frames.
_FAST_WORDS = 3
_FAST_SECONDS = 0.15
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")


@dataclass(frozen=True, slots=True)
class DecodeSchedule:
    """When a segment is decoded, in seconds of its audio.

    The first window ends after `first_step`: in shorter ones Whisper tends to invent a "you" or "Thank you". The others
    follow after each `step`. A window longer than `trim_after` is cut so that confirmed words of `kept` seconds remain;
    the shorter, the cheaper, and 7.5 s still fit in an encoder window of 12.8 s (adaptive_window.py). If nothing was
    confirmed for `force_after`, the hypothesis is confirmed as it is. No window is longer than `max_window`, which is
    below Whisper's 30 s. The server is behind if a step was longer than `behind_step`.

    The figures were chosen by hand; docs/performance.md, "Live", has the delays and word error rates that they give.
    """

    first_step: float = 0.95
    step: float = 0.5
    trim_after: float = 7.5
    kept: float = 2.0
    force_after: float = 12.0
    max_window: float = 24.0
    behind_step: float = 3.0
    policy: ConfirmationPolicy = field(default_factory=ConfirmationPolicy)


class PhraseDecoder:
    """`decoded` is the end of the last window, `window_start` the start of the next. Words have the session's time."""

    def __init__(self, schedule: DecodeSchedule, segment: SpeechSegment, context: Sequence[AlignedWord] = ()) -> None:
        self._schedule = schedule
        self.segment = segment
        self.decoded = segment.start
        self.window_start = segment.start
        self._context = tuple(context)
        self._prefix: list[AlignedWord] = []
        self._agreement = LocalAgreement(schedule.policy)
        self._confirmed_at = segment.start

    @property
    def pending(self) -> tuple[AlignedWord, ...]:
        return self._agreement.pending

    @property
    def context(self) -> tuple[AlignedWord, ...]:
        """The last words, as context of the next segment."""
        return (*self._context, *self._prefix)[-CONTEXT_TOKENS:]

    @property
    def finished(self) -> bool:
        """Whether the segment has ended and is decoded completely."""
        return self.segment.end is not None and self._caught_up

    @property
    def _caught_up(self) -> bool:
        segment = self.segment
        if segment.decode_until is None:
            return False
        if segment.silent_since is None:
            return self.decoded >= segment.decode_until
        return self.decoded >= min(segment.decode_until, segment.silent_since + _DECODED_SILENCE)

    def next_position(self, received: int) -> int | None:
        """Return where the next window ends if one is due, given how many samples were received."""
        latest = self.window_start + to_samples(self._schedule.max_window)
        if self.segment.decode_until is not None:
            return None if self._caught_up else min(self.segment.decode_until, latest)
        is_first = self.decoded == self.segment.start
        step = to_samples(self._schedule.first_step if is_first else self._schedule.step)
        undecoded = received - self.decoded
        if undecoded < step:
            return None
        if undecoded >= step + step // 2:
            step = undecoded // _STEP_GRID * _STEP_GRID
        return min(self.decoded + step, latest)

    def window(self, buffer: SampleBuffer, position: int, *, language: str | None, prompt: str) -> DecodeWindow:
        """Return the window that ends at `position`."""
        return DecodeWindow(
            buffer.between(self.window_start, position),
            language=language,
            prompt=prompt,
            context=self._context,
            prefix=tuple(self._prefix),
        )

    def update(self, hypothesis: Hypothesis, position: int, *, confirm: bool = True) -> tuple[AlignedWord, ...]:
        """Return the words that the hypothesis of the window up to `position` confirms; none without `confirm`."""
        step, self.decoded = position - self.decoded, position
        if hypothesis.looping:
            return ()
        words = self._words(hypothesis)
        if not confirm:
            self._agreement.pending = tuple(words)
            return ()
        behind = step > to_samples(self._schedule.behind_step)
        confirmed = self._agreement.update(words, position / SAMPLE_RATE, behind=behind) or self._overdue(position)
        self._prefix.extend(confirmed)
        if confirmed:
            self._confirmed_at = position
        self._trim(position)
        return confirmed

    def finish(self) -> tuple[AlignedWord, ...]:
        """Confirm and return the pending words of an ended segment."""
        words = self._agreement.take(len(self.pending))
        if words and self.segment.end is not None:
            end = max(words[-1].start, min(words[-1].end, self.segment.end / SAMPLE_RATE))
            words = (*words[:-1], replace(words[-1], end=end))
        self._prefix.extend(words)
        return words

    def split(self) -> int | None:
        """Drop the pending words and return where the confirmed ones end; None, and nothing is dropped, without any."""
        if not self._prefix:
            return None
        self._agreement.pending = ()
        return min(max(self.window_start, to_samples(self._prefix[-1].end)), self.decoded)

    def _words(self, hypothesis: Hypothesis) -> list[AlignedWord]:
        """The words in the session's time, without hallucinations."""
        unlikely = hypothesis.log_probability < _LOG_PROBABILITY_THRESHOLD
        if unlikely and hypothesis.no_speech_prob > _NO_SPEECH_THRESHOLD:
            return []
        return drop_fast_words([word.shifted(self.window_start / SAMPLE_RATE) for word in hypothesis.words])

    def _overdue(self, position: int) -> tuple[AlignedWord, ...]:
        """Confirm the words, except the newest, if hypotheses have not agreed for too long."""
        if position - max(self._confirmed_at, self.window_start) <= to_samples(self._schedule.force_after):
            return ()
        latest = position / SAMPLE_RATE - self._schedule.kept
        newest = (index for index, word in enumerate(self.pending) if word.end > latest)
        return self._agreement.take(next(newest, len(self.pending)))

    def _trim(self, position: int) -> None:
        """Cut a long window between confirmed words, after a sentence if one ends there."""
        schedule, prefix = self._schedule, self._prefix
        length = position - self.window_start
        if length <= to_samples(schedule.trim_after):
            return
        latest = prefix[-1].end - schedule.kept if prefix else 0.0
        cuts = [index for index in range(1, len(prefix) - 1) if prefix[index].start <= latest]
        if cuts:
            sentences = (index for index in reversed(cuts) if prefix[index - 1].text.endswith(_SENTENCE_ENDS))
            index = next(sentences, cuts[-1])
            self._start_at(index, to_samples((prefix[index - 1].end + prefix[index].start) / 2), position)
        elif length > to_samples(schedule.force_after + schedule.kept):
            self._trim_unconfirmed(position)

    def _trim_unconfirmed(self, position: int) -> None:
        """Keep the last seconds of a window in which little is confirmed, and if possible all pending words."""
        start = position - to_samples(self._schedule.kept)
        if self.pending:
            start = min(start, to_samples(self.pending[0].start))
        self._start_at(len(self._prefix), max(start, position - to_samples(self._schedule.force_after)), position)

    def _start_at(self, index: int, start: int, position: int) -> None:
        """Start the next window at the confirmed word with this index; those before it become context."""
        self.window_start = min(max(self.window_start, start), position)
        self._context = (*self._context, *self._prefix[:index])[-CONTEXT_TOKENS:]
        self._prefix = self._prefix[index:]


def drop_fast_words(words: Sequence[AlignedWord]) -> list[AlignedWord]:
    """Return the words up to the first that follow each other faster than anybody speaks."""
    for index in range(len(words) - _FAST_WORDS + 1):
        if words[index + _FAST_WORDS - 1].end - words[index].start < _FAST_SECONDS:
            return list(words[:index])
    return list(words)
