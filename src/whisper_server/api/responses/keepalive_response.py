"""Answers that begin before they are known.

Clients and proxies take a long silence for a broken connection: OpenAI's clients after 600 s, and then they ask again.
So a body that takes long starts with what means nothing: spaces before JSON, comments between events.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio import Lock, sleep
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.errors import openai_error
from whisper_server.api.sse import KEEP_ALIVE, MEDIA_TYPE, sse
from whisper_server.core.errors import WhisperServerError

logger = logging.getLogger(__name__)

_INTERVAL = 20.0
_SHORTEST_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class BodyKind:
    """How a body is begun early, and how it fails after that: by an error in it, whole or cut off."""

    media_type: str
    filler: bytes
    write_error: Callable[[dict[str, Any]], bytes]
    whole: bool


# An early 200 cannot be taken back, and clients would take an error in its JSON for the answer. So it stays without
# its last chunk, which they notice; OpenAI's clients ask again and get the error that was kept (retries.py).
JSON = BodyKind("application/json", b" ", lambda error: json.dumps(error).encode(), whole=False)
EVENTS = BodyKind(f"{MEDIA_TYPE}; charset=utf-8", KEEP_ALIVE, sse, whole=True)


class KeepAliveBody:
    """A response whose status and headers go out with the first bytes."""

    def __init__(self, send: Send, kind: BodyKind) -> None:
        self._send = send
        self._kind = kind
        self._sending = Lock()
        self.started = False

    async def write(self, chunk: bytes, *, more: bool = True) -> None:
        async with self._sending:
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers()})
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def fill(self, interval: float) -> None:
        while True:
            await sleep(interval)
            await self.write(self._kind.filler)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        kept_fresh = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return [(b"content-type", self._kind.media_type.encode()), *kept_fresh]


class KeepAliveResponse:
    """Sends the response that the work returns, or nothing more if the work has written to the body itself.

    The work ends with the connection.
    """

    def __init__(
        self,
        work: Callable[[KeepAliveBody], Awaitable[Response | None]],
        kind: BodyKind = JSON,
        *,
        interval: float = math.inf,
    ) -> None:
        self._work = work
        self._kind = kind
        self._interval = interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = KeepAliveBody(send, self._kind)
        fill = partial(body.fill, self._interval)
        try:
            response = await while_connected(Request(scope, receive), partial(self._work, body), fill)
        except (WhisperServerError, ClientDisconnect) as exc:
            if not body.started:
                raise
            await self._fail(body, exc)
            return
        if response is not None and not body.started:
            await response(scope, receive, send)
        else:
            await body.write(bytes(response.body) if response is not None else b"", more=False)

    async def _fail(self, body: KeepAliveBody, exc: WhisperServerError | ClientDisconnect) -> None:
        if isinstance(exc, ClientDisconnect):
            logger.info("the client left")
            return
        logger.error("after the answer had begun: %s", exc)
        await body.write(self._kind.write_error(openai_error(exc)), more=not self._kind.whole)


def patience(request: Request[Any]) -> float:
    """Return the seconds of silence after which this client should hear something."""
    try:
        timeout = float(request.headers.get("x-stainless-read-timeout", "inf"))
    except ValueError:
        return _INTERVAL
    return max(_SHORTEST_INTERVAL, min(_INTERVAL, timeout / 3)) if timeout > 0 else _INTERVAL
