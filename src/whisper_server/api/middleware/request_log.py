"""Gives each request an id, a log line and its place in the metrics."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from uuid import uuid4

from anyio import get_cancelled_exc_class
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_server.api.error_shapes import error_shape
from whisper_server.api.errors import below_v1, error_response, failure_response, route_path
from whisper_server.api.metrics import Metrics
from whisper_server.api.middleware.headers import with_headers
from whisper_server.core.errors import Cancelled, ServerStopping
from whisper_server.core.logs import request_id

logger = logging.getLogger(__name__)

_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_CLIENT_DISCONNECTED = 499
_MAX_PATH_LENGTH = 200
_LINE = "%(method)s %(path)s %(status)d in %(seconds).3f s, %(bytes_in)d bytes in, key %(key)s"
# Successful requests that probes, scrapers and browsers repeat: logged at level debug.
_ROUTINE = ("/health", "/ready", "/metrics")
_ROUTINE_BELOW = "/web/"
_STATUS = {"websocket.accept": 101, "websocket.close": 403}


class RequestLogMiddleware:
    """The outermost middleware, so it sees the final response."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        client_id = Headers(scope=scope).get("x-request-id", "")
        token = request_id.set(client_id if _VALID_ID.fullmatch(client_id) else uuid4().hex)
        recorder = _RequestRecorder(scope, receive, send)
        self._metrics.in_progress.inc()
        try:
            await recorder.run(self._app)
        finally:
            self._metrics.in_progress.dec()
            self._metrics.observe(scope, recorder.status, recorder.seconds)
            recorder.log()
            request_id.reset(token)


class _RequestRecorder:
    """Counts the bytes and times one request, and logs it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = with_headers(send, self._headers)
        self._path = route_path(scope)
        self._started = time.monotonic()
        self._status = 0
        self._bytes_in = 0

    @property
    def status(self) -> int:
        """499 if the client disconnected, as nginx has it; 0 if there was no response."""
        failure = self._scope.get("state", {}).get("failure")
        return _CLIENT_DISCONNECTED if failure is ClientDisconnect else self._status

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except get_cancelled_exc_class():
            # uvicorn cancels the requests that are still running at the end of --shutdown-timeout.
            self._scope.setdefault("state", {})["failure"] = Cancelled
            if not self._status and self._scope["type"] == "http":
                await failure_response(self._path, ServerStopping())(self._scope, self.receive, self.send)
            raise
        except Exception:
            logger.exception("%s failed", self._path)
            if self._status:
                raise  # the connection has to break, so that the response does not look complete
            await error_response(self._path, 500, "internal server error")(self._scope, self.receive, self.send)

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_in += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
        return message

    async def send(self, message: Message) -> None:
        self._status = self._status or _STATUS.get(message["type"], 0) or message.get("status", 0)
        await self._send(message)

    def log(self) -> None:
        """Log without the query, which may contain a key."""
        facts: Mapping[str, object] = {
            "method": self._scope.get("method", "WEBSOCKET"),
            "path": self._path[:_MAX_PATH_LENGTH],
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "bytes_in": self._bytes_in,
            "key": self._scope.get("state", {}).get("key", "none"),
        }
        is_routine = self._path in _ROUTINE or self._path.startswith(_ROUTINE_BELOW)
        level = logging.DEBUG if is_routine and 0 < self.status < 400 else logging.INFO
        logger.log(level, _LINE, facts, extra=facts)

    def _headers(self) -> Mapping[str, str]:
        names = ("x-request-id", *error_shape(self._path).id_headers)
        headers = dict.fromkeys(names, request_id.get())
        if below_v1(self._path):
            headers["openai-processing-ms"] = str(round(self.seconds * 1000))
        return headers
