"""Keeps a client and the decoder of its session in step. Amounts of audio are in samples."""

from __future__ import annotations

from collections.abc import Callable

from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.live.events import Lag
from whisper_server.live.sample_buffer import to_seconds

# Samples (10 s) that may be undecoded; beyond that nothing is taken, and TCP slows the client down.
_MAX_UNDECODED = 10 * SAMPLE_RATE
# Seconds. Audio that is further ahead of real time waits for the decoder, so that a file gives a microphone's text:
# without this rule the texts differed by 1.3 % (docs/performance.md, "Live").
_MAX_AHEAD = 1.0
# Seconds of undecoded audio from which on a lag is reported, and below which the next one may be; chosen by hand.
_LAG = 3.0
_CAUGHT_UP = 1.0


class BackPressure:
    """`decoder_idle` tells whether the decoder waits for more audio. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at: float | None = None
        self._lagging = False
        self.decoder_idle = False

    def must_wait(self, *, received: int, undecoded: int) -> bool:
        """Return whether the next audio must wait for the decoder. The first call starts the clock."""
        if self._started_at is None:
            self._started_at = self._clock()
        if undecoded > _MAX_UNDECODED:
            return True
        ahead = to_seconds(received) - (self._clock() - self._started_at)
        return ahead > _MAX_AHEAD and not self.decoder_idle

    def lag(self, undecoded: int) -> Lag | None:
        """Return the event to send if the session has fallen behind since it last kept up."""
        seconds = to_seconds(undecoded)
        if seconds > _LAG and not self._lagging:
            self._lagging = True
            return Lag(seconds)
        if seconds < _CAUGHT_UP:
            self._lagging = False
        return None
