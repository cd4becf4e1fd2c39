"""Turns the segments of speech into utterances: their words, and the events that the client gets about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.inference.transcription.segments import Word
from whisper_server.inference.transcription.streaming import AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.backpressure import BackPressure
from whisper_server.live.events import CoalescingEventQueue, Final, SpeechStarted, SpeechStopped, Update
from whisper_server.live.phrase_decoder import DecodeSchedule, PhraseDecoder
from whisper_server.live.sample_buffer import to_samples, to_seconds
from whisper_server.live.segmenter import SpeechSegment, SpeechSegmenter

# Samples (3 s) of silence after which words are no context any more: old context makes Whisper loop.
_MAX_CONTEXT_GAP = 3 * SAMPLE_RATE
# Samples (28 s) after which speech without a pause becomes another utterance; Whisper's window is 30 s.
_MAX_UTTERANCE = 28 * SAMPLE_RATE
# The language is chosen from 2 s of speech (in samples) if it is at least this probable, and from 4 s in any case.
# Both were chosen by hand.
_LANGUAGE_SPEECH = 2 * SAMPLE_RATE
_LANGUAGE_PROBABILITY = 0.5


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """`endpoint_ms` of silence end an utterance; with None only a flush does. `partials` are the pending words.

    Without a `language` a multilingual model detects it in the first utterance. `prompt` is text that the model
    continues. Audio is speech from the probability `threshold` on, and an utterance starts `prefix_ms` before it.
    """

    language: str | None = None
    prompt: str = ""
    endpoint_ms: int | None = 500
    threshold: float = 0.5
    prefix_ms: int = 300
    model: str = ""
    partials: bool = True
    schedule: DecodeSchedule = field(default_factory=DecodeSchedule)


class WindowDecoder(Protocol):
    """The part of the engine that a session uses."""

    async def decode_window(self, window: DecodeWindow, /, *, model: str) -> Hypothesis: ...


class Utterance:
    """`start` is a position in samples, None until speech starts; `language` is that of the last window."""

    def __init__(self, number: int = 0, language: str = "") -> None:
        self.number = number
        self.language = language
        self.start: int | None = None
        self._words: list[AlignedWord] = []
        self._start_announced = self._stop_announced = False

    def announce(self, segment: SpeechSegment) -> Iterator[SpeechStarted | SpeechStopped]:
        """Yield that the segment's speech has started and stopped, each once; nothing for an empty segment."""
        if segment.end == segment.start:
            return
        if not self._start_announced:
            self._start_announced = True
            yield SpeechStarted(to_seconds(segment.start))
        if segment.end is not None and not self._stop_announced:
            self._stop_announced = True
            yield SpeechStopped(to_seconds(segment.end))

    def update(self, confirmed: Sequence[AlignedWord], pending: Sequence[AlignedWord], position: int) -> Update:
        """Add the confirmed words and return the event about what was decoded up to this position."""
        self._words.extend(confirmed)
        return Update(self.number, _words(confirmed), _words(pending), to_seconds(position), self.language)

    def final(self, segment: SpeechSegment, *, received: int, language: str | None) -> Final:
        """Return the event that ends the utterance with its last segment."""
        assert segment.end is not None and self.start is not None
        return Final(
            utterance=self.number,
            words=_words(self._words),
            start=to_seconds(self.start),
            end=to_seconds(segment.end),
            audio=to_seconds(received),
            language=language or self.language,
            flushed=segment.flushed,
        )


class UtteranceDecoder:
    """Decodes the segments, the oldest first, and puts the events into the queue."""

    def __init__(
        self,
        window_decoder: WindowDecoder,
        options: SessionOptions,
        segmenter: SpeechSegmenter,
        events: CoalescingEventQueue,
        back_pressure: BackPressure,
    ) -> None:
        self._window_decoder = window_decoder
        self._options = options
        self._segmenter = segmenter
        self._events = events
        self._back_pressure = back_pressure
        self._phrase_decoder: PhraseDecoder | None = None
        self._utterance = Utterance()
        self._language = options.language
        self._context: tuple[AlignedWord, ...] = ()

    @property
    def in_utterance(self) -> bool:
        return self._utterance.start is not None

    @property
    def undecoded(self) -> int:
        """Samples that must still be decoded; silence need not be."""
        if self._phrase_decoder is not None:
            return self._segmenter.received - self._phrase_decoder.decoded
        first = self._segmenter.first
        return 0 if first is None else self._segmenter.received - first.start

    def announce_speech(self) -> None:
        """Report the first segment's speech, unless the client ends utterances itself."""
        if (segment := self._segmenter.first) is None:
            return
        if self._utterance.start is None:
            self._utterance.start = segment.start
        if self._options.endpoint_ms is not None:
            for event in self._utterance.announce(segment):
                self._events.put(event)

    def discard_audio(self) -> None:
        self._segmenter.discard_audio(None if self._phrase_decoder is None else self._phrase_decoder.window_start)

    def clear(self) -> None:
        """Forget the utterance that has not ended."""
        self._segmenter.drop_open_utterance()
        if self._segmenter.first is None:
            self._phrase_decoder = None
            self._utterance = Utterance(self._utterance.number, self._utterance.language)

    async def step(self) -> bool:
        """Decode one window or finish one segment; return whether there was anything to do."""
        if (segment := self._segmenter.first) is None:
            return False
        self.announce_speech()
        decoder = self._phrase_decoder
        if decoder is None or decoder.segment is not segment:
            follows = self._context and segment.start - to_samples(self._context[-1].end) < _MAX_CONTEXT_GAP
            decoder = PhraseDecoder(self._options.schedule, segment, self._context if follows else ())
            self._phrase_decoder = decoder
        if decoder.finished:
            self._finish(decoder)
            return True
        if (position := decoder.next_position(self._segmenter.received)) is None:
            return False
        if (lag := self._back_pressure.lag(self.undecoded)) is not None:
            self._events.put(lag)
        await self._decode(decoder, position)
        return True

    async def _decode(self, decoder: PhraseDecoder, position: int) -> None:
        options = self._options
        window = decoder.window(self._segmenter.buffer, position, language=self._language, prompt=options.prompt)
        hypothesis = await self._window_decoder.decode_window(window, model=options.model)
        if decoder.segment is not self._segmenter.first:
            return  # the client has cleared it meanwhile
        self._choose_language(hypothesis, len(window.samples))
        self._utterance.language = hypothesis.language
        pending_before = decoder.pending
        is_last = decoder.segment.decode_until is not None
        confirmed = decoder.update(hypothesis, position, confirm=self._language is not None or is_last)
        update = self._utterance.update(confirmed, decoder.pending if options.partials else (), position)
        if confirmed or (options.partials and decoder.pending != pending_before):
            self._events.put(update)
        self._split_long_utterance(decoder, position)
        self.discard_audio()

    def _choose_language(self, hypothesis: Hypothesis, samples: int) -> None:
        """Choose the session's language once enough speech was decoded, or if the model has no other."""
        only_one = hypothesis.language_probability == 1.0
        probable = hypothesis.language_probability >= _LANGUAGE_PROBABILITY and samples >= _LANGUAGE_SPEECH
        if self._language is None and (only_one or probable or samples >= 2 * _LANGUAGE_SPEECH):
            self._language = hypothesis.language

    def _split_long_utterance(self, decoder: PhraseDecoder, position: int) -> None:
        """End a long utterance without a pause after its last confirmed word; another one continues there."""
        if self._options.endpoint_ms is None or decoder.segment.decode_until is not None:
            return
        is_long = position - (self._utterance.start or 0) > _MAX_UTTERANCE
        if is_long and (end := decoder.split()) is not None:
            self._segmenter.split(end)

    def _finish(self, decoder: PhraseDecoder) -> None:
        """Confirm the last words of an ended segment, and end the utterance if it ends with it."""
        segment = self._segmenter.pop()
        self._phrase_decoder = None
        words = decoder.finish()
        self._context = decoder.context
        event: Update | Final = self._utterance.update(words, (), decoder.decoded)
        if segment.ends_utterance:
            event = self._utterance.final(segment, received=self._segmenter.received, language=self._language)
            self._utterance = Utterance(self._utterance.number + 1, self._utterance.language)
        if segment.ends_utterance or words:
            self._events.put(event)


def _words(words: Sequence[AlignedWord]) -> tuple[Word, ...]:
    return tuple(Word(w.text, round(w.start, 2), round(w.end, 2), round(w.probability, 3)) for w in words)
