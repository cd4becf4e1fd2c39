"""Responses whose body begins before the result is known.

Clients and proxies take a long silence for a broken connection. OpenAI's clients time out after 600 s and send the
request again. So the body of a slow response starts with filler: spaces before JSON, comments between events.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from anyio import Lock, sleep
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.errors import error_body, route_path
from whisper_server.api.sse import KEEP_ALIVE, MEDIA_TYPE, sse
from whisper_server.core.errors import WhisperServerError

logger = logging.getLogger(__name__)

_INTERVAL = 20.0
_MIN_INTERVAL = 0.1
_NO_BUFFERING = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """How a body is kept alive, and how it reports an error once the status has been sent.

    If `completes_after_error` is false, the connection is closed before the end of the body.
    """

    media_type: str
    filler: bytes
    write_error: Callable[[dict[str, Any]], bytes]
    completes_after_error: bool


# A 200 that was sent cannot be taken back, and clients would take an error in its JSON for the result. An incomplete
# body makes them notice: OpenAI's clients send the request again and get the error that was kept (single_flight.py).
JSON = BodyFormat("application/json", b" ", lambda error: json.dumps(error).encode(), completes_after_error=False)
EVENTS = BodyFormat(f"{MEDIA_TYPE}; charset=utf-8", KEEP_ALIVE, sse, completes_after_error=True)


class KeepAliveBody:
    """A response body; the status and the headers are sent with its first bytes."""

    def __init__(self, send: Send, body_format: BodyFormat) -> None:
        self._send = send
        self._format = body_format
        self._lock = Lock()
        self.started = False

    async def write(self, chunk: bytes, *, more: bool = True) -> None:
        async with self._lock:
            if not self.started:
                self.started = True
                headers = [(b"content-type", self._format.media_type.encode()), *_NO_BUFFERING]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def keep_alive(self, interval: float) -> None:
        """Write filler every `interval` seconds until cancelled."""
        while True:
            await sleep(interval)
            await self.write(self._format.filler)


@dataclass(frozen=True, slots=True)
class KeepAliveResponse:
    """Sends the response that `work` returns, or ends the body that `work` has written if it returns None.

    Filler is written every `interval` seconds while `work` runs. A client that disconnects cancels `work`.
    """

    work: Callable[[KeepAliveBody], Awaitable[Response | None]]
    body_format: BodyFormat = JSON
    _: KW_ONLY
    interval: float = math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = KeepAliveBody(send, self.body_format)
        keep_alive = partial(body.keep_alive, self.interval)
        try:
            response = await while_connected(Request(scope, receive), partial(self.work, body), keep_alive)
        except ClientDisconnect:
            if not body.started:
                raise
            logger.info("the client disconnected")
        except WhisperServerError as exc:
            if not body.started:
                raise
            logger.log(exc.log_level, "failed after the response had started: %s", exc)
            error = self.body_format.write_error(error_body(route_path(scope), exc))
            await body.write(error, more=not self.body_format.completes_after_error)
        else:
            if response is not None and not body.started:
                await response(scope, receive, send)
            else:
                await body.write(bytes(response.body) if response is not None else b"", more=False)


def keepalive_interval(request: Request[Any]) -> float:
    """Return the interval in seconds: 20, or a third of the read timeout that OpenAI's clients announce."""
    try:
        timeout = float(request.headers.get("x-stainless-read-timeout", "inf"))
    except ValueError:
        return _INTERVAL
    return max(_MIN_INTERVAL, min(_INTERVAL, timeout / 3)) if timeout > 0 else _INTERVAL
