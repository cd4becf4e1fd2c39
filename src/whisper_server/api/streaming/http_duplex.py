"""Live sessions over one HTTP request, whose answer comes while its body is still being sent.

Starlette's StreamingResponse would read the body away, to find out whether the client has left.
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

# Neither caches nor proxies may wait for more.
_UNBUFFERED = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


def lines(message: Message) -> bytes:
    return json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def server_sent_events(message: Message) -> bytes:
    return sse(message, event=str(message["type"]))


@dataclass(frozen=True, slots=True)
class Notation:
    media_type: str
    write: Callable[[Message], bytes]


NOTATIONS = (Notation("application/x-ndjson", lines), Notation(MEDIA_TYPE, server_sent_events))


class HTTPDuplexResponse:
    """An ASGI application. It begins with the first bytes of the body, so that what they are may be refused."""

    def __init__(
        self, adapter: ProtocolAdapter, session: Session, sessions: SessionLimits, *, notation: Notation
    ) -> None:
        self._adapter = adapter
        self._session = session
        self._sessions = sessions
        self._notation = notation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        transport = HTTPDuplexTransport(receive, send, self._notation, state.get("disconnected"))
        try:
            with self._sessions.admit("http", state.get("key")):
                refusal = await SessionRunner(transport, self._adapter, self._session, self._sessions).run()
                if refusal is not None and not transport.begun:
                    raise refusal
                for message in self._adapter.on_error(refusal) if refusal else ():
                    await transport.send(message)
                await transport.end()
        except ClientDisconnect as exc:
            if not transport.begun:
                raise
            state["failure"] = type(exc)


class HTTPDuplexTransport:
    def __init__(self, receive: Receive, send: Send, notation: Notation, disconnected: Signal | None) -> None:
        self._receive = receive
        self._send = send
        self._notation = notation
        self.disconnected: Signal = disconnected or Event()
        self._complete = False
        self._closed = False
        self.begun = False

    async def receive(self) -> bytes | str | None:
        while not self._closed:
            if self._complete:
                self._closed = True
                return None
            if body := await self._next_part():
                return body
        while True:
            await self._next_part()

    async def _next_part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._complete = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def send(self, message: Message) -> None:
        if not self.begun:
            self.begun = True
            headers = [(b"content-type", self._notation.media_type.encode()), *_UNBUFFERED]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": self._notation.write(message), "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
