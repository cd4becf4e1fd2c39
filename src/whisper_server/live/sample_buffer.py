"""The samples of a session that may still be needed, addressed by their position in the session."""

from __future__ import annotations

import numpy as np

from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples


def to_samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def to_seconds(samples: int) -> float:
    """Return the seconds that so many samples last, to the millisecond."""
    return round(samples / SAMPLE_RATE, 3)


class SampleBuffer:
    """`len()` is the number of samples in memory, `end` the position after the last one."""

    def __init__(self) -> None:
        self._start = 0
        self.end = 0
        self._samples = np.empty(SAMPLE_RATE, np.float32)

    def __len__(self) -> int:
        return self.end - self._start

    def append(self, samples: Samples) -> None:
        size = len(self)
        if size + len(samples) > len(self._samples):
            grown = np.empty(2 * (size + len(samples)), np.float32)
            grown[:size] = self._samples[:size]
            self._samples = grown
        self._samples[size : size + len(samples)] = samples
        self.end += len(samples)

    def between(self, start: int, stop: int) -> Samples:
        """Return a copy of the samples between two positions; none of them may have been discarded."""
        return self._samples[start - self._start : stop - self._start].copy()

    def discard_before(self, position: int) -> None:
        """Allow the samples before `position` to leave memory."""
        position = min(position, self.end)
        if position - self._start > len(self) // 2:
            self._samples = self._samples[position - self._start : self.end - self._start].copy()
            self._start = position
