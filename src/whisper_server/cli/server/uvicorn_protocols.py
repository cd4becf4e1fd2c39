"""uvicorn's protocols with timeouts for slow clients, and with early detection of clients that disconnect.

They override private hooks of uvicorn, so pyproject.toml pins its minor version.
"""

from __future__ import annotations

import asyncio
import logging
import select
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request

_POLL_INTERVAL = 0.5
# Seconds that a client has to read what is left after the application has finished.
_FLUSH_TIMEOUT = 20.0

# Frames of a WebSocket are parsed in Python, at about 15 µs each. Streaming clients send up to 100 a second.
_FRAMES_PER_SECOND = 500
_MAX_FRAMES_AT_ONCE = 2_000
# Audio may arrive at any speed, so a frame that is as long as 5 ms of it does not count.
_LONG_FRAME_BYTES = 160
# A limit that is checked after so many bytes is exceeded by a few hundred frames at most.
_PIECE_BYTES = 4_096


class ExpectedEvents(logging.Filter):
    """Keeps what is no error, or is logged elsewhere, out of uvicorn's error log.

    A refused handshake; requests that a shutdown cancels; a body that ends early, as its error has been logged.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith("Cancel ") and "graceful shutdown" in message:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        is_cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
        return not is_cancelled and "returned without completing" not in message


class DisconnectDetector:
    """Aborts a connection whose client disconnects while reading from it is paused.

    While the server is busy, data from the client waits in the kernel, and the end of the connection waits behind it.
    The application gets the event `disconnected` as `state["disconnected"]` of its scope. A client that vanishes with
    audio still to send is noticed only when the server sends something, so `send_ping` is called at each poll.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        is_paused: Callable[[], bool],
        send_ping: Callable[[], None] = lambda: None,
    ) -> None:
        self.disconnected = asyncio.Event()
        self._loop = loop
        self._transport = transport
        self._is_paused = is_paused
        self._send_ping = send_ping
        self._is_disconnected = _hangup_check(transport)
        self._timer = loop.call_later(_POLL_INTERVAL, self._poll)

    def _poll(self) -> None:
        if self._is_paused():
            if self._is_disconnected():
                self._transport.abort()
                return
            self._send_ping()
        self._timer = self._loop.call_later(_POLL_INTERVAL, self._poll)

    def stop(self, *, disconnected: bool) -> None:
        self._timer.cancel()
        if disconnected:
            self.disconnected.set()


def _hangup_check(transport: asyncio.Transport) -> Callable[[], bool]:
    """Return a function that says whether the client has disconnected; Windows does not tell before data are read."""
    if sys.platform == "win32":
        return lambda: False
    poller = select.poll()
    events = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
    poller.register(transport.get_extra_info("socket").fileno(), events)
    return lambda: bool(poller.poll(0))


class HTTPProtocol(H11Protocol):
    """Closes a connection on which the server has been waiting for the client for `timeout` seconds.

    uvicorn waits forever for the headers of a request, and for the rest of a body that the application ignores.
    """

    def __init__(self, *args: Any, timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._detector = DisconnectDetector(
            self.loop, transport, lambda: self.flow is not None and self.flow.read_paused
        )
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_deadline()

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope is not None:
            self.scope["state"]["disconnected"] = self._detector.disconnected

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._detector.stop(disconnected=False)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._detector.stop(disconnected=True)
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        upgraded = self.transport.get_protocol() is not self
        return not upgraded and (self.cycle is None or self.cycle.response_complete)

    def _update_deadline(self) -> None:
        """Start one deadline per idle period, not a new one with each byte."""
        if not self._is_idle:
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._timeout, self._close)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self._is_idle:
            self.transport.close()


class FrameLimit:
    """Counts the short frames of a client, pings and fragments included, which cost far more time than their bytes.

    `now` returns seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = float(_MAX_FRAMES_AT_ONCE)
        self._checked_at = now()

    def allows(self, frames: int, size: int) -> bool:
        """Count the frames in so many bytes; returns whether the client is within its limit."""
        now = self._now()
        regained = (now - self._checked_at) * _FRAMES_PER_SECOND
        self._left = min(_MAX_FRAMES_AT_ONCE, self._left + regained) - max(0.0, frames - size / _LONG_FRAME_BYTES)
        self._checked_at = now
        return self._left >= 0


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Tolerates slow clients, and cuts off those that have stopped reading or send masses of short frames.

    uvicorn stops reading while the application is busy, which slows a fast client down. Pongs are late then, so any
    data counts as a sign of life. A client that does not read its remaining messages is cut off some time after the
    application has finished; one that violates the protocol has time to read the reason.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_received = 0.0
        self._frame_limit = FrameLimit(self.loop.time)
        self._protocol_error = False
        self._flush_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._detector = DisconnectDetector(self.loop, transport, lambda: self.read_paused, self._send_ping)

    def _send_ping(self) -> None:
        """Send a ping without waiting for its pong."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))

    def data_received(self, data: bytes) -> None:
        self._last_received = self.loop.time()
        for start in range(0, len(data), _PIECE_BYTES):
            if not self._protocol_error:
                self._receive(data[start : start + _PIECE_BYTES])

    def _receive(self, piece: bytes) -> None:
        self.conn.receive_data(piece)
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
        elif self._frame_limit.allows(len(self.conn.events), len(piece)):
            self.handle_events()
        else:
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many short frames")
            self.handle_parser_exception()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"]["disconnected"] = self._detector.disconnected

    def handle_parser_exception(self) -> None:
        """Close after a delay: closing at once, as uvicorn does, loses the reason if the client is still sending."""
        self._protocol_error = True
        closed = self.conn.close_sent
        if closed is None:  # the application has not accepted the handshake yet
            self.transport.abort()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._detector.stop(disconnected=True)
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._last_received >= self.ping_sent_at:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if self in self.connections:
            self._flush_timer = self.loop.call_later(_FLUSH_TIMEOUT, self.transport.abort)
