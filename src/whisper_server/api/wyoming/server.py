"""Listens for clients of the Wyoming protocol and limits their number."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

from anyio import CancelScope, Event, move_on_after
from starlette.requests import ClientDisconnect
from wyoming.error import Error

from whisper_server.api.metrics import Metrics
from whisper_server.api.wyoming.connection import Connection, ConnectionLimits
from whisper_server.api.wyoming.event_stream import MAX_LINE_BYTES, EventStream
from whisper_server.api.wyoming.transcription import TranscriptionRunner
from whisper_server.core.errors import Overloaded
from whisper_server.core.notifier import Notifier
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import Transcriber

logger = logging.getLogger(__name__)

_RETRY_AFTER = 5


class WyomingServer:
    """Accepts up to `max_requests` connections, each of which runs one transcription at a time."""

    def __init__(self, transcriber: Transcriber, models: ModelAdmin, metrics: Metrics, settings: Settings) -> None:
        self._runner = TranscriptionRunner(transcriber, models, metrics, settings)
        self._max_connections = settings.max_requests
        self._limits = ConnectionLimits(
            receive_timeout=settings.receive_timeout,
            idle_timeout=settings.session_idle_timeout,
            max_seconds=settings.max_session_seconds,
        )
        self._listener: asyncio.Server | None = None
        self._connections: set[CancelScope] = set()
        self._stopping = Event()
        self._closed = Notifier()

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket, which is closed by `stop()`."""
        if sys.platform != "win32" and sock.family == socket.AF_UNIX:
            self._listener = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_LINE_BYTES)
        else:
            self._listener = await asyncio.start_server(self._serve, sock=sock, limit=MAX_LINE_BYTES)

    async def stop(self, timeout: float) -> None:
        """Stop listening, let running transcriptions finish for `timeout` seconds, and close all connections."""
        if self._listener is not None:
            self._listener.close()
        self._stopping.set()
        with move_on_after(timeout):
            await self._all_closed()
        for connection in self._connections:
            connection.cancel()
        await self._all_closed()

    async def _all_closed(self) -> None:
        while self._connections:
            await self._closed.next.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = EventStream(reader, writer, receive_timeout=self._limits.receive_timeout)
        with CancelScope() as scope:
            full = len(self._connections) >= self._max_connections
            self._connections.add(scope)
            try:
                await (self._refuse(stream) if full else self._run(stream))
            finally:
                await stream.close()
                self._connections.discard(scope)
                self._closed.notify()

    async def _run(self, stream: EventStream) -> None:
        try:
            await Connection(stream, self._runner, self._limits, self._stopping).run()
        except Exception:
            logger.exception("a Wyoming connection failed")

    async def _refuse(self, stream: EventStream) -> None:
        exc = Overloaded(f"the server has its maximum of {self._max_connections} connections", _RETRY_AFTER)
        logger.warning("%s", exc)
        try:
            await stream.send(Error(text=str(exc), code=exc.code))
            await stream.linger()
        except ClientDisconnect:
            pass
