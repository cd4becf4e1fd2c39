"""Splits a session's audio into segments of speech between pauses. All positions are samples of the session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from whisper_server.inference.audio.vad import VoiceActivity
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples
from whisper_server.live.endpointing import PAUSE, Endpointer, SpeechTransition
from whisper_server.live.sample_buffer import SampleBuffer

# Samples (1 s) that are kept of the silence before speech; a client's `prefix_ms` is cut to them.
_PRE_ROLL = SAMPLE_RATE
# If the client ends utterances itself, a segment still ends after so many samples (1 s) of silence.
_DEFAULT_ENDPOINT = SAMPLE_RATE


@dataclass(slots=True, eq=False)
class SpeechSegment:
    """`silent_since` and `decode_until` are set while its speaker pauses, `end` once the segment has ended.

    `ends_utterance` tells whether the utterance ends with it, `flushed` whether the client asked for that.
    """

    start: int
    silent_since: int | None = None
    decode_until: int | None = None
    end: int | None = None
    ends_utterance: bool = False
    flushed: bool = False


class SpeechSegmenter:
    """The segments that are not decoded completely, the oldest first, and their audio.

    `endpoint` and `prefix` are in samples; without an endpoint only the client ends utterances. `voice_activity`
    returns the probabilities of speech in the windows that the samples complete.
    """

    def __init__(
        self,
        *,
        threshold: float,
        endpoint: int | None,
        prefix: int,
        voice_activity: Callable[[Samples], list[float]] | None = None,
    ) -> None:
        self.buffer = SampleBuffer()
        self._voice_activity = voice_activity or VoiceActivity()
        self._segments: deque[SpeechSegment] = deque()
        self._endpoint_ends_utterance = endpoint is not None
        self._endpointer = Endpointer(
            threshold=threshold,
            endpoint=_DEFAULT_ENDPOINT if endpoint is None else endpoint,
            prefix=min(prefix, _PRE_ROLL),
        )

    @property
    def received(self) -> int:
        """The number of samples that were added."""
        return self.buffer.end

    @property
    def first(self) -> SpeechSegment | None:
        return self._segments[0] if self._segments else None

    @property
    def utterance_ended(self) -> bool:
        """Whether the last segment ends its utterance."""
        return bool(self._segments) and self._segments[-1].ends_utterance

    def add(self, samples: Samples) -> None:
        probabilities = self._voice_activity(samples)
        self.buffer.append(samples)
        for transition in self._endpointer.update(probabilities):
            self._apply(transition)

    def end_utterance(self, *, flushed: bool) -> None:
        """End the utterance here, with an empty segment if none is open."""
        if not self._segments or self._segments[-1].end is not None:
            self._segments.append(SpeechSegment(self.received))
        segment = self._segments[-1]
        segment.end = self.received
        if segment.decode_until is None:
            segment.decode_until = self.received
        segment.ends_utterance, segment.flushed = True, flushed
        self._endpointer.reset(self.received)

    def drop_open_utterance(self) -> None:
        """Drop the segments of the utterance that has not ended."""
        while self._segments and not self._segments[-1].ends_utterance:
            self._segments.pop()
        self._endpointer.reset(self.received)

    def split(self, position: int) -> None:
        """End the utterance within the open segment; another segment starts at `position`."""
        segment = self._segments[-1]
        segment.end = segment.decode_until = position
        segment.ends_utterance = True
        self._segments.append(SpeechSegment(position))

    def pop(self) -> SpeechSegment:
        """Remove and return the first segment."""
        return self._segments.popleft()

    def discard_audio(self, window_start: int | None) -> None:
        """Discard what no window needs; the first segment's next one starts at `window_start`, or else with it."""
        if window_start is None and self._segments:
            window_start = self._segments[0].start
        pre_roll = self.received - _PRE_ROLL
        self.buffer.discard_before(pre_roll if window_start is None else min(pre_roll, window_start))

    def _apply(self, transition: SpeechTransition) -> None:
        if transition.kind == "started":
            self._segments.append(SpeechSegment(transition.position))
            return
        segment = self._segments[-1]
        if transition.kind == "resumed":
            segment.silent_since = segment.decode_until = None
            return
        segment.silent_since = transition.position
        segment.decode_until = min(transition.position + PAUSE, self.received)
        if transition.kind == "stopped":
            segment.end = transition.position
            segment.ends_utterance = self._endpoint_ends_utterance
