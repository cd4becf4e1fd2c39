"""Where in a file somebody may be speaking."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from whisper_server.inference.audio.splitting import MAX_SILENT_PROBABILITY
from whisper_server.inference.audio.vad import WINDOW, VoiceActivity
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Waveform

_BLOCK = 1875 * WINDOW  # a minute
_FRAME_SECONDS = WINDOW / SAMPLE_RATE
# A word has no silence of 0.25 s in it.
_PAUSE_FRAMES = 8
# The start of the next word is shorter.
_SHORTEST_FRAMES = 2
# Speech is detected a little after it starts.
_ONSET_FRAMES = 2


class VoiceMap:
    """Which frames of 32 ms may have speech, four bytes each. All times are in seconds."""

    def __init__(self, audio: Waveform, check: Callable[[], None]) -> None:
        detector = VoiceActivity()
        frames: list[bool] = []
        for start in range(0, len(audio), _BLOCK):
            check()
            frames += [voice >= MAX_SILENT_PROBABILITY for voice in detector(audio[start : start + _BLOCK])]
        self._voiced = np.array(frames, bool)
        self._count = np.concatenate([[0], np.cumsum(self._voiced, dtype=np.int32)])

    def seconds(self, start: float, end: float) -> float:
        """Return how much of a stretch may be speech."""
        return max(0, self._before(end) - self._before(start)) * _FRAME_SECONDS

    def divide(self, start: float, end: float, shares: list[float]) -> list[float]:
        """Return the times at which these shares of the speech, or of a stretch without speech, have passed."""
        first, last = self._before(start), self._before(end)
        if last <= first:
            return [start + share * (end - start) for share in shares]
        positions = np.searchsorted(self._count, [first + share * (last - first) for share in shares])
        return [min(max(float(position) * _FRAME_SECONDS, start), end) for position in positions]

    def without_pauses(self, start: float, end: float) -> tuple[float, float]:
        """Return the part of a word in which it is spoken, or the word itself if it has no voice.

        Around a pause, alignments often give a word the end of the one before, and sometimes the start of the next one.
        """
        first = int(start / _FRAME_SECONDS)
        voiced = first + np.flatnonzero(self._voiced[first : math.ceil(end / _FRAME_SECONDS)])
        if not len(voiced):
            return start, end
        runs = np.split(voiced, np.flatnonzero(np.diff(voiced) > _PAUSE_FRAMES) + 1)
        spoken = max(runs, key=lambda run: (len(run) >= _SHORTEST_FRAMES and run[0], len(run)))
        voice_start, voice_end = float(spoken[0] - _ONSET_FRAMES), float(spoken[-1] + 1)
        return max(start, voice_start * _FRAME_SECONDS), min(end, voice_end * _FRAME_SECONDS)

    def _before(self, time: float) -> int:
        """Return the number of frames with voice before a time."""
        return int(self._count[min(max(0, round(time / _FRAME_SECONDS)), len(self._voiced))])
