"""Live sessions over WebSockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from anyio import Event, move_on_after
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect, WebSocketState

from whisper_server.api.errors import refuse
from whisper_server.api.state import ServerWebSocket, key_name
from whisper_server.api.streaming.session_runner import Message, ProtocolAdapter, SessionRunner, Signal
from whisper_server.core.errors import BadAudio, ServerStopping, WhisperServerError
from whisper_server.live.session import Session
from whisper_server.live.session_limits import SessionLimits

# RFC 6455 and its registry of close codes.
_NORMAL, _UNSUPPORTED, _POLICY, _FAILED, _RESTART, _TRY_LATER = 1000, 1003, 1008, 1011, 1012, 1013
_LONGEST_REASON = 123
_FAREWELL = 10.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the handshake is answered with, and what follows it."""

    adapter: ProtocolAdapter
    session: Session
    subprotocol: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Accept: TypeAlias = Callable[[ServerWebSocket], Accepted]


async def serve(websocket: ServerWebSocket, protocol: str, accept: Accept) -> None:
    """Let `accept` look at the handshake, and hold the conversation; whoever is refused gets an HTTP answer."""
    sessions = websocket.state.sessions
    try:
        with sessions.admit(protocol, key_name(websocket)):
            accepted = accept(websocket)
            headers = [(name.encode(), value.encode()) for name, value in accepted.headers.items()]
            await websocket.accept(accepted.subprotocol, headers)
            await _converse(websocket, accepted, sessions)
    except WhisperServerError as exc:
        await refuse(websocket.scope, websocket.receive, websocket.send, exc)


async def _converse(websocket: ServerWebSocket, accepted: Accepted, sessions: SessionLimits) -> None:
    transport = WebSocketTransport(websocket)
    with suppress(ClientDisconnect):
        refusal = await SessionRunner(transport, accepted.adapter, accepted.session, sessions).run()
        with move_on_after(_FAREWELL):
            for message in accepted.adapter.on_error(refusal) if refusal else ():
                await transport.send(message)
            await transport.close(refusal)


class WebSocketTransport:
    def __init__(self, websocket: ServerWebSocket) -> None:
        self._websocket = websocket
        self.disconnected: Signal = getattr(websocket.state, "disconnected", None) or Event()

    async def receive(self) -> bytes | str | None:
        if self._websocket.client_state is WebSocketState.DISCONNECTED:
            raise ClientDisconnect
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnect
        data: bytes | None = message.get("bytes")
        text: str = message.get("text") or ""
        return text if data is None else data

    async def send(self, message: Message) -> None:
        try:
            await self._websocket.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))
        except WebSocketDisconnect as exc:
            raise ClientDisconnect from exc

    async def close(self, refusal: WhisperServerError | None) -> None:
        try:
            await self._websocket.close(_code(refusal), _shortened(str(refusal)) if refusal else None)
        except (WebSocketDisconnect, RuntimeError) as exc:  # starlette's answer to a client that is gone already
            raise ClientDisconnect from exc


def subprotocol(websocket: ServerWebSocket, known: Sequence[str]) -> str | None:
    """Return the one that the client offers and the server knows."""
    return next((name for name in websocket.scope.get("subprotocols", ()) if name in known), None)


def _code(refusal: WhisperServerError | None) -> int:
    if refusal is None:
        return _NORMAL
    if isinstance(refusal, BadAudio):
        return _UNSUPPORTED
    if isinstance(refusal, ServerStopping):
        return _RESTART
    if refusal.status < 500:
        return _POLICY
    return _TRY_LATER if refusal.status == 503 else _FAILED


def _shortened(reason: str) -> str:
    return reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
