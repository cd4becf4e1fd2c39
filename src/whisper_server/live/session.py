"""One live session: audio goes in, events come out.

`feed` finds the segments of speech in the audio; one task decodes them, one window at a time. Both count samples, not
time: unless the server is too slow, the text does not depend on how fast the audio arrives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import TracebackType

from anyio import create_task_group, to_thread

from whisper_server.core.errors import EngineFailed, WhisperServerError
from whisper_server.core.notifier import Notifier
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio import vad
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples
from whisper_server.live.backpressure import BackPressure
from whisper_server.live.events import CoalescingEventQueue, Ended, Event
from whisper_server.live.sample_buffer import to_samples, to_seconds
from whisper_server.live.segmenter import SpeechSegmenter
from whisper_server.live.utterance import SessionOptions as SessionOptions
from whisper_server.live.utterance import UtteranceDecoder, WindowDecoder

logger = logging.getLogger(__name__)

# Samples (0.1 s) that are taken at once: their voice activity occupies the event loop for about a millisecond.
_CHUNK = SAMPLE_RATE // 10


class Session:
    """An asynchronous context manager: leaving it cancels its work and frees everything at once.

    Iterating over it yields the events, for one reader; raises the WhisperServerError that ended the session, if any.
    """

    def __init__(
        self,
        window_decoder: WindowDecoder,
        options: SessionOptions,
        *,
        voice_activity: Callable[[Samples], list[float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segmenter = SpeechSegmenter(
            threshold=options.threshold,
            endpoint=None if options.endpoint_ms is None else to_samples(options.endpoint_ms / 1000),
            prefix=to_samples(options.prefix_ms / 1000),
            voice_activity=voice_activity,
        )
        self._events = CoalescingEventQueue()
        self._back_pressure = BackPressure(clock)
        self._decoder = UtteranceDecoder(window_decoder, options, self._segmenter, self._events, self._back_pressure)
        self._input = Notifier()
        self._progress = Notifier()
        self._end_requested = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Session:
        await to_thread.run_sync(vad.load)
        group = await self._stack.enter_async_context(create_task_group())
        self._stack.callback(group.cancel_scope.cancel)
        group.start_soon(self._decode)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._events.close()
        self._progress.notify()
        await self._stack.aclose()

    async def feed(self, samples: Samples) -> None:
        """Take any number of mono samples at 16 kHz; waits while more than 10 s are undecoded.

        Audio that arrives faster than real time also waits for each window, so that it is decoded like a microphone's.
        Raises the error that ended the session.
        """
        for start in range(0, len(samples), _CHUNK):
            self._events.raise_error()
            self._segmenter.add(samples[start : start + _CHUNK])
            self._decoder.announce_speech()
            self._decoder.discard_audio()
            self._wake_decoder()
            await self._wait_for_decoder()
            await self._events.wait_for_room()

    async def flush(self) -> None:
        """End the utterance now; one Final that is `flushed` answers."""
        self._segmenter.end_utterance(flushed=True)
        self._wake_decoder()

    async def end(self) -> None:
        """End the utterance; after its Final follows only Ended."""
        if self._decoder.in_utterance and not self._segmenter.utterance_ended:
            self._segmenter.end_utterance(flushed=False)
        self._end_requested = True
        self._wake_decoder()

    async def clear(self) -> None:
        """Forget the utterance that has not ended; it gets no Final."""
        self._decoder.clear()
        self._wake_decoder()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events.read()

    @property
    def received(self) -> float:
        """Seconds of audio that were taken."""
        return to_seconds(self._segmenter.received)

    async def _wait_for_decoder(self) -> None:
        while not self._events.finished and self._back_pressure.must_wait(
            received=self._segmenter.received, undecoded=self._decoder.undecoded
        ):
            await self._progress.next.wait()
            self._events.raise_error()

    def _wake_decoder(self) -> None:
        self._back_pressure.decoder_idle = False
        self._input.notify()

    async def _decode(self) -> None:
        try:
            while self._segmenter.first is not None or not self._end_requested:
                changed = self._input.next
                active = await self._decoder.step()
                self._back_pressure.decoder_idle = not active
                self._progress.notify()
                if not active:
                    await changed.wait()
            self._events.put(Ended(self.received))
        except WhisperServerError as exc:
            self._events.fail(exc)
        except Exception as exc:
            logger.exception("a live session failed")
            self._events.fail(EngineFailed(f"the session failed: {type(exc).__name__}"))
        finally:
            self._progress.notify()


class SessionFactory:
    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    def open(self, options: SessionOptions) -> Session:
        """Return a session to be entered; raises ModelNotFound, or BadOption if the model lacks the language."""
        self._transcriber.check_session(options.model, options.language)
        return Session(self._transcriber, options)
