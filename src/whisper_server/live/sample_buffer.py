"""The samples of a session that may still be needed, by their place in it."""

from __future__ import annotations

import numpy as np

from whisper_server.inference.audio.features import Samples


class SampleBuffer:
    def __init__(self) -> None:
        self._start = 0
        self._end = 0
        self._kept = np.empty(16_000, np.float32)

    @property
    def end(self) -> int:
        return self._end

    @property
    def kept(self) -> int:
        """How many samples are in memory."""
        return self._end - self._start

    def append(self, samples: Samples) -> None:
        kept = self._end - self._start
        if kept + len(samples) > len(self._kept):
            grown = np.empty(2 * (kept + len(samples)), np.float32)
            grown[:kept] = self._kept[:kept]
            self._kept = grown
        self._kept[kept : kept + len(samples)] = samples
        self._end += len(samples)

    def between(self, start: int, stop: int) -> Samples:
        """Return a copy."""
        return self._kept[start - self._start : stop - self._start].copy()

    def forget(self, before: int) -> None:
        """Samples before that one are not needed any more."""
        before = min(before, self._end)
        if before - self._start > self.kept // 2:
            self._kept = self._kept[before - self._start : self._end - self._start].copy()
            self._start = before
