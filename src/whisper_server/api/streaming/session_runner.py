"""Runs a live session for one client: frames from the transport go to the session, its events go back.

A protocol adapter gives frames and events their meaning, a transport carries them; neither knows the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol, TypeAlias

from anyio import CancelScope, Event, create_task_group, current_time, fail_after
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect

from whisper_server.core.errors import EngineFailed, ServerStopping, SessionIdle, SessionTooLong, WhisperServerError
from whisper_server.live import events
from whisper_server.live.pcm_stream import Samples
from whisper_server.live.session import Session
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger(__name__)

Message: TypeAlias = Mapping[str, Any]

# A client that does not read a message for this many seconds counts as disconnected.
_SEND_TIMEOUT = 60.0


class Signal(Protocol):
    async def wait(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Audio:
    samples: Samples


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send a message that does not come from an event of the session."""

    message: Message


@dataclass(frozen=True, slots=True)
class Switch:
    """End the current session, send its last events, and continue with this one."""

    session: Session


class Command(Enum):
    """A command of the client: end the utterance, discard it, or end the session."""

    FLUSH = auto()
    CLEAR = auto()
    END = auto()


Action: TypeAlias = Audio | SendMessage | Switch | Command


class Transport(Protocol):
    # Set when the client disconnects while nobody calls receive(), if the server can tell.
    disconnected: Signal

    async def receive(self) -> bytes | str | None:
        """Return the client's next frame, or None after the last one; raises ClientDisconnect."""

    async def send(self, message: Message) -> None: ...


class ProtocolAdapter(Protocol):
    """The runner carries out each yielded action before it asks for the next, so long frames are decoded in chunks."""

    def on_open(self) -> Iterable[Message]: ...

    def on_frame(self, frame: bytes | str) -> Iterable[Action]:
        """Raises BadAudio and BadMessage, which end the session."""

    def on_end(self) -> Iterable[Action]:
        """The client has sent everything."""

    def on_event(self, event: events.Event) -> Iterable[Message]: ...

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]: ...


class SessionRunner:
    """Runs until the session ends, the client disconnects or the server stops. `send_timeout` is in seconds."""

    def __init__(
        self,
        transport: Transport,
        adapter: ProtocolAdapter,
        session: Session,
        limits: SessionLimits,
        *,
        send_timeout: float = _SEND_TIMEOUT,
    ) -> None:
        self._transport = transport
        self._adapter = adapter
        self._session = session
        self._next_session: Session | None = session
        self._session_entered = Event()
        self._limits = limits
        self._send_timeout = send_timeout
        self._receiving = CancelScope()
        self._input_ended = False
        self._disconnected = False
        self._error: WhisperServerError | None = None

    async def run(self) -> WhisperServerError | None:
        """Return the error that ended the session early, if any; raises ClientDisconnect.

        Unless the session itself fails, the words of all audio received before the error are sent first.
        """
        async with create_task_group() as group:
            group.start_soon(self._receive, group)
            group.start_soon(self._stop_with_server)
            group.start_soon(self._cancel_on_disconnect, group)
            try:
                await self._send_events()
            except ClientDisconnect:
                self._disconnected = True
            except Exception as exc:
                self._error = _as_known_error(exc)
            group.cancel_scope.cancel()
        if self._disconnected:
            raise ClientDisconnect
        return self._error

    async def _send_events(self) -> None:
        await self._send(self._adapter.on_open())
        while self._next_session is not None:
            async with self._next_session as session:
                self._session, self._next_session = session, None
                self._session_entered.set()
                async for event in session:
                    if not (isinstance(event, events.Ended) and self._error):
                        await self._send(self._adapter.on_event(event))

    async def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            try:
                with fail_after(self._send_timeout):
                    await self._transport.send(message)
            except TimeoutError as exc:
                logger.info("the client of a live session has stopped reading")
                raise ClientDisconnect from exc

    async def _receive(self, group: TaskGroup) -> None:
        try:
            await self._session_entered.wait()
            with self._receiving:
                await self._process_frames()
            if not self._input_ended:
                self._next_session = None
                await self._session.end()
            while True:  # ignore later frames, but notice a disconnect
                await self._transport.receive()
        except ClientDisconnect:
            self._disconnected = True
            group.cancel_scope.cancel()

    async def _process_frames(self) -> None:
        try:
            deadline = current_time() + self._limits.max_seconds
            while not self._input_ended:
                frame = await self._next_frame(deadline)
                for action in self._adapter.on_end() if frame is None else self._adapter.on_frame(frame):
                    await self._perform(action)
        except ClientDisconnect:
            raise
        except Exception as exc:
            self._error = _as_known_error(exc)

    async def _next_frame(self, deadline: float) -> bytes | str | None:
        remaining = deadline - current_time()
        if remaining <= 0:
            raise SessionTooLong(self._limits.max_seconds)
        try:
            with fail_after(min(remaining, self._limits.idle_timeout)):
                return await self._transport.receive()
        except TimeoutError as exc:
            idle = self._limits.idle_timeout
            raise SessionIdle(idle) if idle < remaining else SessionTooLong(self._limits.max_seconds) from exc

    async def _perform(self, action: Action) -> None:
        match action:
            case Audio(samples):
                await self._session.feed(samples)
            case SendMessage(message):
                await self._send([message])
            case Switch(session):
                await self._switch(session)
            case Command.FLUSH:
                await self._session.flush()
            case Command.CLEAR:
                await self._session.clear()
            case Command.END:
                self._input_ended = True
                await self._session.end()

    async def _switch(self, session: Session) -> None:
        self._next_session = session
        self._session_entered = Event()
        await self._session.end()
        await self._session_entered.wait()

    async def _stop_with_server(self) -> None:
        await self._limits.stopping.wait()
        if not self._input_ended:
            self._error = ServerStopping()
            self._receiving.cancel()

    async def _cancel_on_disconnect(self, group: TaskGroup) -> None:
        await self._transport.disconnected.wait()
        self._disconnected = True
        group.cancel_scope.cancel()


def _as_known_error(exc: Exception) -> WhisperServerError:
    if isinstance(exc, WhisperServerError):
        return exc
    logger.error("a live session failed", exc_info=exc)
    return EngineFailed("internal server error")
