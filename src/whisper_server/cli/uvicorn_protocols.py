"""Connections on which a request has to arrive in time, and whose end is noticed."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
_LOOKS_EVERY = 0.5
_FAREWELL = 20.0


class HangUps:
    """Cuts a connection off whose client has gone while nothing is read from it.

    What a client has sent waits in the kernel while the server is busy, and its hanging up would wait behind that. So
    `noticed` is set for the application, too, as `state["disconnected"]` of its scope. A client's kernel that still has
    audio to send says that the client has gone only when it is spoken to: `speak` does that.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        paused: Callable[[], bool],
        speak: Callable[[], None] = lambda: None,
    ) -> None:
        self.noticed = asyncio.Event()
        self._loop = loop
        self._transport = transport
        self._paused = paused
        self._speak = speak
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), _GONE)
        self._timer = loop.call_later(_LOOKS_EVERY, self._look)

    def _look(self) -> None:
        if not self._paused():
            self._timer = self._loop.call_later(_LOOKS_EVERY, self._look)
        elif self._poll.poll(0):
            self._transport.abort()
        else:
            self._speak()
            self._timer = self._loop.call_later(_LOOKS_EVERY, self._look)

    def stop(self, *, lost: bool) -> None:
        self._timer.cancel()
        if lost:
            self.noticed.set()


class Connection(H11Protocol):
    """uvicorn waits for ever for a request's headers, and for the rest of a body that nobody wants any more.

    Here a connection on which the server does nothing may keep it waiting for `timeout` seconds.
    """

    def __init__(self, *args: Any, timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hang_ups = HangUps(self.loop, transport, lambda: self.flow is not None and self.flow.read_paused)
        self._keep_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._keep_deadline()

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope is not None:
            self.scope["state"]["disconnected"] = self._hang_ups.noticed

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._hang_ups.stop(lost=False)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_deadline()
        self._hang_ups.stop(lost=True)
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        upgraded = self.transport.get_protocol() is not self
        return not upgraded and (self.cycle is None or self.cycle.response_complete)

    def _keep_deadline(self) -> None:
        """Set it once for what is to come, not anew with each byte."""
        if not self._idle:
            self._drop_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._timeout, self._close)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self._idle:
            self.transport.close()


class Socket(WebSocketsSansIOProtocol):
    """uvicorn reads no further while the application is busy, and that is what slows a fast client down.

    So its pongs come late, too, and do not have to come while anything else does. A client that reads nothing is cut
    off some time after the application has done with it; one that breaks the protocol gets time to read the reason.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard = 0.0
        self._broken = False
        self._farewell: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hang_ups = HangUps(self.loop, transport, lambda: self.read_paused, self._ping)

    def _ping(self) -> None:
        """Its pong is not waited for."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        if not self._broken:
            super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"]["disconnected"] = self._hang_ups.noticed

    def handle_parser_exception(self) -> None:
        """uvicorn would close the connection at once; while the client still sends, that takes the reason with it."""
        self._broken = True
        closed = self.conn.close_sent
        assert closed is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hang_ups.stop(lost=True)
        if self._farewell is not None:
            self._farewell.cancel()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._heard >= self.ping_sent_at:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if self in self.connections:
            self._farewell = self.loop.call_later(_FAREWELL, self.transport.abort)
