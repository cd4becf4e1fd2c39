"""What a session hears, as phrases: what is spoken between two pauses. All positions are samples of the session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.audio.features import Samples
from whisper_server.inference.audio.vad import VoiceActivity
from whisper_server.live.endpointing import QUIET, Endpointer, SpeechTransition
from whisper_server.live.sample_buffer import SampleBuffer

# Speech may begin so much before it is noticed.
_PRE_ROLL = SAMPLE_RATE
# Without an endpoint of the client's a phrase ends here, and its utterance goes on.
_PAUSE = SAMPLE_RATE


@dataclass(slots=True, eq=False)
class SpeechSegment:
    """`quiet` is since when there is no speech, and `sound_end` up to where to decode, if anything says so.

    `end` is where the phrase is over. `closes` says that the utterance is over with it.
    """

    start: int
    quiet: int | None = None
    sound_end: int | None = None
    end: int | None = None
    closes: bool = False
    flushed: bool = False

    @property
    def over(self) -> bool:
        return self.end is not None


class SpeechSegmenter:
    """Those that are not written down yet, the oldest first, and their sound.

    `endpoint` and `prefix` are in samples; without an endpoint no phrase closes its utterance by itself. `voice` gives
    the probabilities of speech in the windows of samples; it may be called in a thread.
    """

    def __init__(
        self,
        *,
        threshold: float,
        endpoint: int | None,
        prefix: int,
        voice: Callable[[Samples], list[float]] | None = None,
    ) -> None:
        self.voice = voice or VoiceActivity()
        self.buffer = SampleBuffer()
        self._waiting: deque[SpeechSegment] = deque()
        self._closing = endpoint is not None
        self._endpointer = Endpointer(
            threshold=threshold, endpoint=endpoint if endpoint is not None else _PAUSE, prefix=min(prefix, _PRE_ROLL)
        )

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def heard(self) -> int:
        """How many samples were added."""
        return self.buffer.end

    @property
    def first(self) -> SpeechSegment | None:
        return self._waiting[0] if self._waiting else None

    @property
    def open(self) -> SpeechSegment | None:
        """The phrase that is being spoken."""
        return self._waiting[-1] if self._waiting and not self._waiting[-1].over else None

    @property
    def closed(self) -> bool:
        """Whether the last phrase closes its utterance."""
        return bool(self._waiting) and self._waiting[-1].closes

    def add(self, samples: Samples, probabilities: Iterable[float]) -> None:
        """Take samples and the probabilities that `voice` gave for them."""
        self.buffer.append(samples)
        for mark in self._endpointer.hear(probabilities):
            self._note(mark)

    def close(self, *, flushed: bool) -> None:
        """End the utterance here; it gets a phrase to end with if it has none that goes on."""
        phrase = self.open
        if phrase is None:
            phrase = SpeechSegment(self.heard)
            self._waiting.append(phrase)
        phrase.end = self.heard
        phrase.sound_end = self.heard if phrase.sound_end is None else phrase.sound_end
        phrase.closes, phrase.flushed = True, flushed
        self._endpointer.reset(self.heard)

    def forget_unclosed(self) -> None:
        """Drop the phrases of the utterance that nothing has closed yet."""
        while self._waiting and not self._waiting[-1].closes:
            self._waiting.pop()
        self._endpointer.reset(self.heard)

    def split(self, cut: int) -> None:
        """Close the utterance of the open phrase there; the rest of the phrase is another one's."""
        phrase = self._waiting[-1]
        phrase.end = phrase.sound_end = cut
        phrase.closes = True
        self._waiting.append(SpeechSegment(cut))

    def pop(self) -> SpeechSegment:
        """Take the first one, which is written down."""
        return self._waiting.popleft()

    def forget(self, needed: int | None) -> None:
        """Drop the sound that nobody needs any more; of the first phrase it is needed from that sample on."""
        first = self._waiting[0].start if self._waiting and needed is None else needed
        before = self.heard - _PRE_ROLL
        self.buffer.forget(before if first is None else min(before, first))

    def _note(self, mark: SpeechTransition) -> None:
        if mark.kind == "started":
            self._waiting.append(SpeechSegment(mark.sample))
            return
        phrase = self._waiting[-1]
        if mark.kind == "resumed":
            phrase.quiet = phrase.sound_end = None
            return
        phrase.quiet = mark.sample
        phrase.sound_end = min(mark.sample + QUIET, self.heard)
        if mark.kind == "stopped":
            phrase.end = mark.sample
            phrase.closes = self._closing
