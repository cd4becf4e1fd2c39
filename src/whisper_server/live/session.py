"""One live session: samples go in, events come out.

`feed` finds out where speech begins and ends, which makes phrases; one task decodes them, the oldest first, one window
at a time. Both work on the clock of the samples: how fast they come changes nothing, unless the server is too slow
for speech.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from anyio import Event as Signal
from anyio import create_task_group, to_thread

from whisper_server.core.errors import EngineFailed, WhisperServerError
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio import vad
from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.audio.features import Samples
from whisper_server.inference.transcription.streaming import AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.event_queue import CoalescingEventQueue
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update, Word
from whisper_server.live.phrase_decoder import DecodeSchedule, PhraseDecoder
from whisper_server.live.segmenter import SpeechSegment, SpeechSegmenter

logger = logging.getLogger(__name__)

# Feeding waits while more is undecoded.
_AHEAD = 10 * SAMPLE_RATE
_PIECE = SAMPLE_RATE // 10
# Sound that comes so much sooner than anybody can speak is taken in step with the decoding, as if it were spoken now.
_EARLY = 1.0
# So much sound takes its voice activity about a millisecond; more is for a thread.
_AT_ONCE = 4 * vad.WINDOW
_CONTEXT_GAP = 3 * SAMPLE_RATE
# Speech without a pause is closed after so much, at a word that is certain.
_LONGEST_UTTERANCE = 28 * SAMPLE_RATE
# A language that is found in less speech, or is less probable, is not yet the session's.
_SHORT_SPEECH = 2 * SAMPLE_RATE
_SURE_LANGUAGE = 0.5
_LAG = 3.0
_CAUGHT_UP = 1.0


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """`endpoint_ms` of silence end an utterance; None leaves that to flush(). `partials` are the pending words.

    Without a `language` a multilingual model finds it in the first utterance. `prompt` is text that the model may take
    the audio for a continuation of. `threshold` is the probability from which on sound is speech, and an utterance
    begins `prefix_ms` before it.
    """

    language: str | None = None
    prompt: str = ""
    endpoint_ms: int | None = 500
    threshold: float = 0.5
    prefix_ms: int = 300
    model: str = ""
    partials: bool = True
    pace: DecodeSchedule = field(default_factory=DecodeSchedule)


class WindowDecoder(Protocol):
    """What a session needs of the engine."""

    async def decode_window(self, passage: DecodeWindow, *, model: str) -> Hypothesis: ...


class Session:
    """An asynchronous context manager: leaving it cancels its work and frees everything at once.

    Iterating it yields the events, for one consumer; it raises the WhisperServerError that ended the session, if any.
    """

    def __init__(
        self,
        decoder: WindowDecoder,
        options: SessionOptions,
        *,
        voice: Callable[[Samples], list[float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._options = options
        endpoint = None if options.endpoint_ms is None else _samples(options.endpoint_ms / 1000)
        prefix = _samples(options.prefix_ms / 1000)
        self._phrases = SpeechSegmenter(threshold=options.threshold, endpoint=endpoint, prefix=prefix, voice=voice)
        self._scribe: PhraseDecoder | None = None
        self._events = CoalescingEventQueue()
        self._changed = Signal()
        self._decoded = Signal()
        self._stack = AsyncExitStack()
        self._closes_by_itself = options.endpoint_ms is not None
        self._language = options.language
        self._utterance = 0
        self._began: int | None = None
        self._words: list[AlignedWord] = []
        self._context: tuple[AlignedWord, ...] = ()
        self._spoken = ""
        self._started: SpeechSegment | None = None
        self._stopped: SpeechSegment | None = None
        self._ended = self._gone = False
        self._lagging = self._idle = False
        self._clock = clock
        self._since = 0.0

    async def __aenter__(self) -> Session:
        await to_thread.run_sync(vad.load)
        group = await self._stack.enter_async_context(create_task_group())
        self._stack.callback(group.cancel_scope.cancel)
        group.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._gone = True
        self._events.close()
        self._progress()
        await self._stack.aclose()

    async def feed(self, samples: Samples) -> None:
        """Take mono samples at 16 kHz, however many; waits while more than 10 seconds are undecoded.

        Sound that comes faster than speech waits for each decoding, so that the text is that of a microphone. Raises
        the error that ended the session.
        """
        for at in range(0, len(samples), _PIECE):
            await self._take(samples[at : at + _PIECE])

    async def flush(self) -> None:
        """Finish the utterance now; one Final answers."""
        self._phrases.close(flushed=True)
        self._ring()

    async def end(self) -> None:
        """Finish the utterance; nothing follows its Final but Ended."""
        unfinished = self._began is not None and not self._phrases.closed
        if self._phrases.open is not None or unfinished:
            self._phrases.close(flushed=False)
        self._ended = True
        self._ring()

    async def clear(self) -> None:
        """Forget the audio that no Final has answered yet, nor will answer as it was flushed or has ended."""
        self._phrases.forget_unclosed()
        if not self._phrases:
            self._scribe = self._began = None
            self._words = []
        self._ring()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events.read()

    @property
    def heard(self) -> float:
        """Seconds of audio that were taken."""
        return _seconds(self._phrases.heard)

    # What comes in

    async def _take(self, samples: Samples) -> None:
        self._events.check()
        if len(samples) <= _AT_ONCE:
            probabilities = self._phrases.voice(samples)
        else:
            probabilities = await to_thread.run_sync(self._phrases.voice, samples)
        if not self._phrases.heard:
            self._since = self._clock()
        self._phrases.add(samples, probabilities)
        self._announce()
        self._forget()
        self._ring()
        while (self._undecoded > _AHEAD or (self._early and not self._idle)) and not self._gone:
            await self._decoded.wait()
            self._events.check()
        await self._events.has_room()

    @property
    def _early(self) -> bool:
        """Whether more was heard than can have been spoken since the beginning."""
        return _seconds(self._phrases.heard) - (self._clock() - self._since) > _EARLY

    @property
    def _undecoded(self) -> int:
        """Samples that are heard and not decoded; silence needs no decoding."""
        first = self._phrases.first
        if first is None:
            return 0
        return self._phrases.heard - (self._scribe.decoded if self._scribe else first.start)

    def _forget(self) -> None:
        self._phrases.forget(self._scribe.needed if self._scribe is not None else None)

    def _ring(self) -> None:
        self._idle = False
        self._changed.set()
        self._changed = Signal()

    # What goes out

    async def _work(self) -> None:
        try:
            while not (self._ended and not self._phrases):
                changed = self._changed
                if not await self._step():
                    self._idle = True
                    self._progress()
                    await changed.wait()
            self._events.put(Ended(_seconds(self._phrases.heard)))
        except WhisperServerError as exc:
            self._fail(exc)
        except Exception as exc:
            logger.exception("a live session failed")
            self._fail(EngineFailed(f"the session failed: {type(exc).__name__}"))
        finally:
            self._progress()

    def _fail(self, error: WhisperServerError) -> None:
        self._gone = True
        self._events.fail(error)

    async def _step(self) -> bool:
        """Do what is to be done next, if anything."""
        if (phrase := self._phrases.first) is None:
            return False
        self._announce()
        if self._scribe is None or self._scribe.phrase is not phrase:
            self._scribe = self._new_scribe(phrase)
        if self._scribe.finished:
            self._finish(self._scribe)
            return True
        if (position := self._scribe.due(self._phrases.heard)) is None:
            return False
        self._tell_lag()
        await self._decode(self._scribe, position)
        return True

    def _new_scribe(self, phrase: SpeechSegment) -> PhraseDecoder:
        follows = self._context and phrase.start - _samples(self._context[-1].end) < _CONTEXT_GAP
        return PhraseDecoder(self._options.pace, phrase, self._context if follows else ())

    async def _decode(self, scribe: PhraseDecoder, position: int) -> None:
        passage = scribe.passage(self._phrases.buffer, position, language=self._language, prompt=self._options.prompt)
        heard = await self._decoder.decode_window(passage, model=self._options.model)
        if scribe.phrase is not self._phrases.first:
            return  # it was cleared meanwhile
        self._choose_language(heard, len(passage.samples))
        before = scribe.pending
        last = scribe.phrase.sound_end is not None
        certain = scribe.take(heard, position, preview=self._language is None and not last)
        self._words.extend(certain)
        self._spoken = heard.language
        if certain or (self._options.partials and scribe.pending != before):
            pending = scribe.pending if self._options.partials else ()
            self._events.put(Update(self._utterance, _words(certain), _words(pending), _seconds(position)))
        self._close_if_long(scribe, position)
        self._forget()
        self._progress()

    def _choose_language(self, heard: Hypothesis, samples: int) -> None:
        """For the whole session, as soon as enough was heard."""
        known = heard.language_probability == 1.0  # the model has no other
        sure = heard.language_probability >= _SURE_LANGUAGE and samples >= _SHORT_SPEECH
        if self._language is None and (known or sure or samples >= 2 * _SHORT_SPEECH):
            self._language = heard.language

    def _close_if_long(self, scribe: PhraseDecoder, position: int) -> None:
        """Somebody speaks without a pause: the utterance ends with its last certain word, and another one goes on."""
        phrase, began = scribe.phrase, self._began or 0
        long = position - began > _LONGEST_UTTERANCE and phrase.sound_end is None
        if not (long and self._closes_by_itself) or (cut := scribe.split()) is None:
            return
        self._phrases.split(cut)

    def _finish(self, scribe: PhraseDecoder) -> None:
        """The phrase is over, and with it maybe the utterance."""
        phrase = self._phrases.pop()
        self._scribe = None
        rest = scribe.finish()
        self._words.extend(rest)
        self._context = scribe.context()
        if phrase.closes:
            self._finalise(phrase)
        elif rest:
            self._events.put(Update(self._utterance, _words(rest), (), _seconds(scribe.decoded)))
        self._progress()

    def _finalise(self, phrase: SpeechSegment) -> None:
        assert phrase.end is not None and self._began is not None
        self._events.put(
            Final(
                utterance=self._utterance,
                words=_words(self._words),
                start=_seconds(self._began),
                end=_seconds(phrase.end),
                audio=_seconds(self._phrases.heard),
                language=self._language or self._spoken,
                flushed=phrase.flushed,
            )
        )
        self._utterance += 1
        self._began = None
        self._words = []

    def _announce(self) -> None:
        """Say of the first phrase that speech has begun and stopped, each once. Without an endpoint nobody asks."""
        if (phrase := self._phrases.first) is None:
            return
        if self._began is None:
            self._began = phrase.start
        if not self._closes_by_itself or phrase.end == phrase.start:
            return
        if phrase is not self._started:
            self._started = phrase
            self._events.put(SpeechStarted(_seconds(phrase.start)))
        if phrase.end is not None and phrase is not self._stopped:
            self._stopped = phrase
            self._events.put(SpeechStopped(_seconds(phrase.end)))

    def _tell_lag(self) -> None:
        seconds = _seconds(self._undecoded)
        if seconds > _LAG and not self._lagging:
            self._lagging = True
            self._events.put(Lag(seconds))
        elif seconds < _CAUGHT_UP:
            self._lagging = False

    def _progress(self) -> None:
        self._decoded.set()
        self._decoded = Signal()


class SessionFactory:
    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    def open(self, options: SessionOptions) -> Session:
        """Return a session, to be entered; raises ModelNotFound, or BadOption for another language."""
        self._transcriber.check_session(options.model, options.language)
        return Session(self._transcriber, options)


def _words(spoken: Sequence[AlignedWord]) -> tuple[Word, ...]:
    return tuple(Word(s.text, round(s.start, 2), round(s.end, 2), round(s.probability, 3)) for s in spoken)


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
