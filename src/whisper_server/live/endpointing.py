"""Where speech begins and ends, by the probabilities of its windows. All positions are samples of the session."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.audio.vad import WINDOW

# Of so many windows so many must be speech, so that a click is none.
_RECENT = 3
_ENOUGH = 2
# Speech goes on down to a probability that is lower by this much.
_HYSTERESIS = 0.15
# After so much silence it is likely that nothing more comes, and the words can be found before that is sure.
QUIET = SAMPLE_RATE // 5


@dataclass(frozen=True, slots=True)
class SpeechTransition:
    """`started` and `quiet` say since when; after `quiet` comes either `resumed` or `stopped`."""

    kind: Literal["started", "quiet", "resumed", "stopped"]
    sample: int


class Endpointer:
    """`endpoint` and `prefix` are in samples."""

    def __init__(self, *, threshold: float, endpoint: int, prefix: int) -> None:
        self._threshold = threshold
        self._lowest = max(threshold - _HYSTERESIS, 0.01)
        self._endpoint = max(endpoint, WINDOW)
        self._quiet_after = min(QUIET, self._endpoint)
        self._prefix = prefix
        self._position = 0
        self._earliest = 0
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._speaking = False
        self._silent_since: int | None = None
        self._is_quiet = False

    def reset(self, at: int) -> None:
        """Forget the speech; what comes begins at that sample or later."""
        self._earliest = at
        self._recent.clear()
        self._speaking = self._is_quiet = False
        self._silent_since = None

    def hear(self, probabilities: Iterable[float]) -> list[SpeechTransition]:
        """Take the next windows."""
        marks: list[SpeechTransition] = []
        for probability in probabilities:
            mark = self._speech(probability) if self._speaking else self._silence(probability)
            self._position += WINDOW
            if mark is not None:
                marks.append(mark)
        return marks

    def _silence(self, probability: float) -> SpeechTransition | None:
        self._recent.append(probability >= self._threshold)
        if sum(self._recent) < _ENOUGH:
            return None
        first = self._position - (len(self._recent) - 1 - self._recent.index(True)) * WINDOW
        start = max(first - self._prefix, self._earliest, 0)
        self.reset(self._earliest)
        self._speaking = True
        return SpeechTransition("started", start)

    def _speech(self, probability: float) -> SpeechTransition | None:
        if probability >= self._threshold:
            was_quiet, self._is_quiet, self._silent_since = self._is_quiet, False, None
            return SpeechTransition("resumed", self._position) if was_quiet else None
        if self._silent_since is None:
            if probability >= self._lowest:
                return None
            self._silent_since = self._position
        silent = self._position + WINDOW - self._silent_since
        if silent >= self._endpoint:
            stopped = SpeechTransition("stopped", self._silent_since)
            self.reset(self._silent_since)
            return stopped
        if silent >= self._quiet_after and not self._is_quiet:
            self._is_quiet = True
            return SpeechTransition("quiet", self._silent_since)
        return None
