"""Live sessions over one HTTP request: the response is sent while the body is still arriving.

Starlette's StreamingResponse cannot do this: it reads the body to notice a disconnect.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from anyio import Event
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from whisper_server.api.sse import MEDIA_TYPE, sse
from whisper_server.api.streaming.session_runner import Message, ProtocolAdapter, SessionRunner, Signal
from whisper_server.live.session import Session
from whisper_server.live.session_limits import SessionLimits

# Keep caches and proxies from holding the messages back.
_NO_BUFFERING = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


def _ndjson(message: Message) -> bytes:
    return json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _sse(message: Message) -> bytes:
    return sse(message, event=str(message["type"]))


@dataclass(frozen=True, slots=True)
class MessageFormat:
    media_type: str
    encode: Callable[[Message], bytes]


NDJSON = MessageFormat("application/x-ndjson", _ndjson)
SERVER_SENT_EVENTS = MessageFormat(MEDIA_TYPE, _sse)


@dataclass(frozen=True, slots=True)
class HTTPDuplexResponse:
    """An ASGI application. It sends the status with the first message, so that audio it cannot read is still a 400."""

    adapter: ProtocolAdapter
    session: Session
    limits: SessionLimits
    format: MessageFormat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        transport = HTTPDuplexTransport(receive, send, self.format, state.get("disconnected"))
        try:
            with self.limits.admit("http", state.get("key")):
                error = await SessionRunner(transport, self.adapter, self.session, self.limits).run()
                if error is not None and not transport.started:
                    raise error
                for message in self.adapter.on_error(error) if error else ():
                    await transport.send(message)
                await transport.end()
        except ClientDisconnect as exc:
            if not transport.started:
                raise
            state["failure"] = type(exc)


class HTTPDuplexTransport:
    def __init__(self, receive: Receive, send: Send, format: MessageFormat, disconnected: Signal | None) -> None:
        self._receive = receive
        self._send = send
        self._format = format
        self.disconnected: Signal = disconnected or Event()
        self._body_complete = False
        self._end_returned = False
        self.started = False

    async def receive(self) -> bytes | str | None:
        while not self._end_returned:
            if self._body_complete:
                self._end_returned = True
                return None
            if chunk := await self._next_chunk():
                return chunk
        while True:
            await self._next_chunk()

    async def _next_chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._body_complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    async def send(self, message: Message) -> None:
        if not self.started:
            self.started = True
            headers = [(b"content-type", self._format.media_type.encode()), *_NO_BUFFERING]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": self._format.encode(message), "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
