"""A live session and its client: what comes in goes to the session, what the session tells goes to the client.

A dialect says what frames and events mean, a wire carries them; neither knows of the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

# A client that reads nothing for so many seconds does not want the rest either.
_PATIENCE = 60.0


class Signal(Protocol):
    async def wait(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Audio:
    samples: Samples


@dataclass(frozen=True, slots=True)
class Say:
    """An answer of the dialect itself."""

    message: Message


@dataclass(frozen=True, slots=True)
class Switch:
    """Go on with this session; the one before tells what it still has to tell first."""

    session: Session


@dataclass(frozen=True, slots=True)
class Flush:
    pass


@dataclass(frozen=True, slots=True)
class Clear:
    pass


@dataclass(frozen=True, slots=True)
class End:
    pass


Action: TypeAlias = Audio | Say | Switch | Flush | Clear | End


class Transport(Protocol):
    # Set when the client has gone while nothing is received, if the server can tell.
    disconnected: Signal

    async def receive(self) -> bytes | str | None:
        """Return what the client sends, or None once it has sent everything; raises ClientDisconnect if it left."""

    async def send(self, message: Message) -> None: ...


class ProtocolAdapter(Protocol):
    """What its methods yield is done before the next is asked for, so that long frames wait in small pieces."""

    def on_open(self) -> Iterable[Message]: ...

    def on_frame(self, frame: bytes | str) -> Iterable[Action]:
        """Raises BadAudio and BadMessage, which end the session."""

    def on_end(self) -> Iterable[Action]:
        """The client has sent everything."""

    def on_event(self, event: events.Event) -> Iterable[Message]: ...

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]: ...


class SessionRunner:
    """Ends with its session, or with its client, which may take `patience` seconds to read a message."""

    def __init__(
        self,
        transport: Transport,
        adapter: ProtocolAdapter,
        session: Session,
        sessions: SessionLimits,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._transport = transport
        self._adapter = adapter
        self._session = session
        self._following: Session | None = session
        self._followed = Event()
        self._sessions = sessions
        self._patience = patience
        self._hearing = CancelScope()
        self._complete = False
        self._left = False
        self._refusal: WhisperServerError | None = None

    async def run(self) -> WhisperServerError | None:
        """Return why the session ended before its time, if it did; raises ClientDisconnect.

        Whatever the client did, it has got the words of all audio that it sent until then.
        """
        async with create_task_group() as group:
            group.start_soon(self._listen, group)
            group.start_soon(self._end_with_server)
            group.start_soon(self._end_with_client, group)
            try:
                await self._speak()
            except ClientDisconnect:
                self._left = True
            except WhisperServerError as exc:
                self._refusal = exc
            except Exception:
                logger.exception("a live session failed")
                self._refusal = EngineFailed("internal server error")
            group.cancel_scope.cancel()
        if self._left:
            raise ClientDisconnect
        return self._refusal

    async def _speak(self) -> None:
        await self._say(self._adapter.on_open())
        while self._following is not None:
            async with self._following as session:
                self._session, self._following = session, None
                self._followed.set()
                async for event in session:
                    if not (isinstance(event, events.Ended) and self._refusal):
                        await self._say(self._adapter.on_event(event))

    async def _say(self, messages: Iterable[Message]) -> None:
        for message in messages:
            try:
                with fail_after(self._patience):
                    await self._transport.send(message)
            except TimeoutError as exc:
                logger.info("the client of a live session has stopped reading")
                raise ClientDisconnect from exc

    async def _listen(self, group: TaskGroup) -> None:
        try:
            await self._followed.wait()
            with self._hearing:
                await self._hear()
            if not self._complete:
                self._following = None
                await self._session.end()
            while True:  # what is sent after the end is of no interest, but that the client leaves is
                await self._transport.receive()
        except ClientDisconnect:
            self._left = True
            group.cancel_scope.cancel()

    async def _hear(self) -> None:
        try:
            deadline = current_time() + self._sessions.max_seconds
            while not self._complete:
                frame = await self._next_frame(deadline)
                for action in self._adapter.on_end() if frame is None else self._adapter.on_frame(frame):
                    await self._do(action)
        except WhisperServerError as exc:
            self._refusal = exc
        except ClientDisconnect:
            raise
        except Exception:
            logger.exception("a live session failed")
            self._refusal = EngineFailed("internal server error")

    async def _next_frame(self, deadline: float) -> bytes | str | None:
        left = deadline - current_time()
        if left <= 0:
            raise SessionTooLong(self._sessions.max_seconds)
        try:
            with fail_after(min(left, self._sessions.idle_timeout)):
                return await self._transport.receive()
        except TimeoutError as exc:
            idle = self._sessions.idle_timeout
            raise SessionIdle(idle) if idle < left else SessionTooLong(self._sessions.max_seconds) from exc

    async def _do(self, action: Action) -> None:
        match action:
            case Audio(samples):
                await self._session.feed(samples)
            case Say(message):
                await self._say([message])
            case Switch(session):
                await self._switch(session)
            case Flush():
                await self._session.flush()
            case Clear():
                await self._session.clear()
            case End():
                self._complete = True
                await self._session.end()

    async def _switch(self, following: Session) -> None:
        self._following = following
        self._followed = Event()
        await self._session.end()
        await self._followed.wait()

    async def _end_with_server(self) -> None:
        await self._sessions.stopping.wait()
        if not self._complete:
            self._refusal = ServerStopping()
            self._hearing.cancel()

    async def _end_with_client(self, group: TaskGroup) -> None:
        await self._transport.disconnected.wait()
        self._left = True
        group.cancel_scope.cancel()
