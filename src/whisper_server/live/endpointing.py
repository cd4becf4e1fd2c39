"""Detects where speech starts and stops, from the probabilities of voice activity.

All positions are samples of the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from whisper_server.inference.audio.vad import WINDOW
from whisper_server.inference.audio.waveform import SAMPLE_RATE

# Two of three windows of 32 ms must be speech before it starts: a click fills only one.
_RECENT_WINDOWS = 3
_SPEECH_WINDOWS = 2
# Speech continues down to the threshold minus this probability, and to 0.01: faster-whisper's `neg_threshold`.
_HYSTERESIS = 0.15
_LOWEST_THRESHOLD = 0.01
# 0.2 s of silence are a pause: nothing more is likely to come, so the end is decoded before the endpoint confirms it.
PAUSE = SAMPLE_RATE // 5


@dataclass(frozen=True, slots=True)
class SpeechTransition:
    """`position` is where speech started or resumed, or where the silence began. A pause is resumed or stopped."""

    kind: Literal["started", "paused", "resumed", "stopped"]
    position: int


class Endpointer:
    """Speech starts `prefix` samples before it is detected and stops after `endpoint` samples of silence."""

    def __init__(self, *, threshold: float, endpoint: int, prefix: int) -> None:
        self._threshold = threshold
        self._low_threshold = max(threshold - _HYSTERESIS, _LOWEST_THRESHOLD)
        self._endpoint = max(endpoint, WINDOW)
        self._pause = min(PAUSE, self._endpoint)
        self._prefix = prefix
        self._position = 0
        self._earliest_start = 0
        self._recent: deque[bool] = deque(maxlen=_RECENT_WINDOWS)
        self._speaking = False
        self._silent_since: int | None = None
        self._paused = False

    def reset(self, position: int) -> None:
        """Forget the current speech; the next starts at `position` or later."""
        self._earliest_start = position
        self._recent.clear()
        self._speaking = self._paused = False
        self._silent_since = None

    def update(self, probabilities: Iterable[float]) -> list[SpeechTransition]:
        """Return the transitions in the next windows, whose probabilities of speech these are."""
        transitions: list[SpeechTransition] = []
        for probability in probabilities:
            transition = self._in_speech(probability) if self._speaking else self._in_silence(probability)
            self._position += WINDOW
            if transition is not None:
                transitions.append(transition)
        return transitions

    def _in_silence(self, probability: float) -> SpeechTransition | None:
        self._recent.append(probability >= self._threshold)
        if sum(self._recent) < _SPEECH_WINDOWS:
            return None
        first = self._position - (len(self._recent) - 1 - self._recent.index(True)) * WINDOW
        start = max(first - self._prefix, self._earliest_start, 0)
        self.reset(self._earliest_start)
        self._speaking = True
        return SpeechTransition("started", start)

    def _in_speech(self, probability: float) -> SpeechTransition | None:
        if probability >= self._threshold:
            was_paused, self._paused, self._silent_since = self._paused, False, None
            return SpeechTransition("resumed", self._position) if was_paused else None
        if self._silent_since is None:
            if probability >= self._low_threshold:
                return None
            self._silent_since = self._position
        silence = self._position + WINDOW - self._silent_since
        if silence >= self._endpoint:
            stopped = SpeechTransition("stopped", self._silent_since)
            self.reset(self._silent_since)
            return stopped
        if silence >= self._pause and not self._paused:
            self._paused = True
            return SpeechTransition("paused", self._silent_since)
        return None
