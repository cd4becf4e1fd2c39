"""One connection: audio is collected while it arrives, and each audio-stop is answered with a transcript or an error.

While a transcription runs, the connection still reads, so that it notices when its client disconnects.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from anyio import CancelScope, Event, create_task_group, current_time
from starlette.requests import ClientDisconnect
from wyoming.error import Error
from wyoming.ping import Pong

from whisper_server.api.wyoming.event_stream import ClientEvent, EventStream
from whisper_server.api.wyoming.info import describe
from whisper_server.api.wyoming.received_audio import ReceivedAudio, parse_format
from whisper_server.api.wyoming.transcribe_options import TranscribeOptions, parse_transcribe
from whisper_server.api.wyoming.transcription import TranscriptionRunner
from whisper_server.core.errors import (
    AudioTooLong,
    ServerStopping,
    SessionIdle,
    SessionTooLong,
    UploadTimedOut,
    WhisperServerError,
)

logger = logging.getLogger(__name__)

# After these, the connection ends: the client may go on sending without end.
_FATAL = (AudioTooLong, SessionTooLong, UploadTimedOut)
# Seconds that a connection stays open after an error. Home Assistant ignores the error and waits for the end.
_ERROR_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """In seconds: the longest silence within an utterance, between two, and the longest utterance."""

    receive_timeout: float
    idle_timeout: float
    max_seconds: float


class Connection:
    """`stopping` is set when the server stops: a running transcription is finished, and nothing else begins."""

    def __init__(
        self, stream: EventStream, runner: TranscriptionRunner, limits: ConnectionLimits, stopping: Event
    ) -> None:
        self._stream = stream
        self._runner = runner
        self._limits = limits
        self._stopping = stopping
        self._group = create_task_group()
        self._waiting = CancelScope()
        self._transcribed = Event()
        self._transcribed.set()
        self._failed = False
        self._reset()

    def _reset(self) -> None:
        """Expect an utterance with the default options. Those that were refused are None."""
        self._options: TranscribeOptions | None = TranscribeOptions()
        self._audio: ReceivedAudio | None = None
        self._refused = False
        self._utterance_began: float | None = None

    async def run(self) -> None:
        """Return when the client has disconnected, or when the connection should be closed."""
        error: WhisperServerError | None = None
        async with self._group as group:
            group.start_soon(self._end_with_server)
            try:
                while await self._wait():
                    await self._handle(await self._stream.read())
            except ClientDisconnect:
                pass
            except WhisperServerError as exc:
                error = exc
            group.cancel_scope.cancel()
        self._drop_audio()
        if error is not None:
            await self._send_error(error)
            await self._stream.linger()

    async def _wait(self) -> bool:
        """Wait for the next event; returns whether one has begun in time. Raises SessionIdle and SessionTooLong."""
        self._check_duration()
        with CancelScope(deadline=self._deadline()) as self._waiting:
            await self._stream.wait()
            return True
        if self._failed:
            return False
        self._check_duration()
        raise SessionIdle(self._limits.idle_timeout) if self._utterance_began is None else UploadTimedOut

    def _deadline(self) -> float:
        if not self._transcribed.is_set():
            return math.inf
        if self._utterance_began is not None:
            end = self._utterance_began + self._limits.max_seconds
            return min(end, current_time() + self._limits.receive_timeout)
        return current_time() + (_ERROR_TIMEOUT if self._failed else self._limits.idle_timeout)

    def _check_duration(self) -> None:
        began = self._utterance_began
        if began is not None and current_time() >= began + self._limits.max_seconds:
            raise SessionTooLong(self._limits.max_seconds)

    async def _handle(self, event: ClientEvent) -> None:
        """Unknown events are ignored, as the protocol demands. Raises what ends the connection."""
        try:
            await _HANDLERS.get(event.type, Connection._ignore)(self, event)
        except _FATAL:
            raise
        except WhisperServerError as exc:
            logger.log(exc.log_level, "%s: %s", event.type, exc)
            self._drop_audio()
            self._refused = self._utterance_began is not None
            await self._send_error(exc)
        while await self._stream.read_payload():
            self._check_duration()

    async def _ignore(self, event: ClientEvent) -> None:
        pass

    async def _describe(self, event: ClientEvent) -> None:
        await self._stream.send(describe(self._runner.models))

    async def _ping(self, event: ClientEvent) -> None:
        text = event.data.get("text")
        await self._stream.send(Pong(text=text if isinstance(text, str) else None))

    async def _transcribe(self, event: ClientEvent) -> None:
        await self._begin(None)
        options = parse_transcribe(event.data)
        self._runner.check(options)
        self._options, self._failed = options, False

    async def _audio_start(self, event: ClientEvent) -> None:
        """Begin again if there is audio already, with the options of the last `transcribe`."""
        await self._begin(self._options)
        self._refused = self._options is None
        if self._refused:
            return
        self._failed = False
        parse_format(event.data)
        self._audio = self._runner.accept()

    async def _audio_chunk(self, event: ClientEvent) -> None:
        if self._utterance_began is None:
            await self._begin(self._options)
            self._failed = False
        if self._refused:
            return
        format = parse_format(event.data)
        audio = self._audio = self._audio or self._runner.accept()
        while part := await self._stream.read_payload():
            self._check_duration()
            await audio.append(part, format)

    async def _audio_stop(self, event: ClientEvent) -> None:
        await self._transcribed.wait()
        audio, options = self._audio, self._options
        if self._refused or options is None:
            return self._reset()
        self._reset()
        self._failed = False
        audio = audio or self._runner.accept()
        self._transcribed = Event()
        self._group.start_soon(self._run_transcription, audio, options)

    async def _begin(self, options: TranscribeOptions | None) -> None:
        """Begin an utterance, after the transcription of the last one."""
        await self._transcribed.wait()
        self._drop_audio()
        self._reset()
        self._options = options
        self._utterance_began = current_time()

    def _drop_audio(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None

    async def _run_transcription(self, audio: ReceivedAudio, options: TranscribeOptions) -> None:
        try:
            await self._runner.run(audio, options, self._stream)
        except WhisperServerError as exc:
            await self._send_error(exc)
        except ClientDisconnect:
            self._group.cancel_scope.cancel()
        finally:
            self._transcribed.set()
            self._waiting.deadline = self._deadline()

    async def _send_error(self, exc: WhisperServerError) -> None:
        self._failed = True
        try:
            await self._stream.send(Error(text=str(exc), code=exc.code))
        except ClientDisconnect:
            self._group.cancel_scope.cancel()

    async def _end_with_server(self) -> None:
        await self._stopping.wait()
        await self._transcribed.wait()
        if self._utterance_began is not None:
            await self._send_error(ServerStopping())
        self._group.cancel_scope.cancel()


_HANDLERS: Mapping[str, Callable[[Connection, ClientEvent], Awaitable[None]]] = {
    "describe": Connection._describe,
    "ping": Connection._ping,
    "transcribe": Connection._transcribe,
    "audio-start": Connection._audio_start,
    "audio-chunk": Connection._audio_chunk,
    "audio-stop": Connection._audio_stop,
}
