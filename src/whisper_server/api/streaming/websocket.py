"""Live sessions over WebSockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from anyio import Event, move_on_after
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect, WebSocketState

from whisper_server.api.errors import refuse, route_path
from whisper_server.api.state import ServerWebSocket, key_name
from whisper_server.api.streaming.session_runner import Message, ProtocolAdapter, SessionRunner, Signal
from whisper_server.core.errors import BadAudio, PathNotFound, ServerStopping, WhisperServerError
from whisper_server.live.session import Session
from whisper_server.live.session_limits import SessionLimits

# Close codes of RFC 6455, section 7.4.1, and of IANA's registry.
_NORMAL, _UNSUPPORTED_DATA, _POLICY_VIOLATION, _INTERNAL_ERROR = 1000, 1003, 1008, 1011
_SERVICE_RESTART, _TRY_AGAIN_LATER = 1012, 1013
_MAX_REASON_BYTES = 123
_MAX_PATH_LENGTH = 200
# Seconds for the error message and the close frame.
_CLOSE_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """How to accept the handshake, and the session that follows."""

    adapter: ProtocolAdapter
    session: Session
    subprotocol: str | None = None


Accept: TypeAlias = Callable[[ServerWebSocket], Accepted]


async def serve(websocket: ServerWebSocket, protocol: str, accept: Accept) -> None:
    """Run the session that `accept` returns for the handshake; an error before it is an HTTP response."""
    limits = websocket.state.sessions
    try:
        with limits.admit(protocol, key_name(websocket)):
            accepted = accept(websocket)
            await websocket.accept(accepted.subprotocol)
            await _run_session(websocket, accepted, limits)
    except WhisperServerError as exc:
        await refuse(websocket.scope, websocket.receive, websocket.send, exc)


async def unknown_path(websocket: ServerWebSocket) -> None:
    """Refuse the handshake: without a route for it, Starlette would give no reason."""
    exc = PathNotFound(f"there is no WebSocket at {route_path(websocket.scope)[:_MAX_PATH_LENGTH]}")
    await refuse(websocket.scope, websocket.receive, websocket.send, exc)


async def _run_session(websocket: ServerWebSocket, accepted: Accepted, limits: SessionLimits) -> None:
    transport = WebSocketTransport(websocket)
    with suppress(ClientDisconnect):
        error = await SessionRunner(transport, accepted.adapter, accepted.session, limits).run()
        with move_on_after(_CLOSE_TIMEOUT):
            for message in accepted.adapter.on_error(error) if error else ():
                await transport.send(message)
            await transport.close(error)


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

    async def close(self, error: WhisperServerError | None) -> None:
        reason = str(error).encode()[:_MAX_REASON_BYTES].decode(errors="ignore") if error else None
        try:
            await self._websocket.close(_close_code(error), reason)
        except (WebSocketDisconnect, RuntimeError) as exc:  # Starlette raises either if the client has disconnected
            raise ClientDisconnect from exc


def subprotocol(websocket: ServerWebSocket, supported: Sequence[str]) -> str | None:
    """Return the first of the client's subprotocols that is supported."""
    return next((name for name in websocket.scope.get("subprotocols", ()) if name in supported), None)


def _close_code(error: WhisperServerError | None) -> int:
    if error is None:
        return _NORMAL
    if isinstance(error, BadAudio):
        return _UNSUPPORTED_DATA
    if isinstance(error, ServerStopping):
        return _SERVICE_RESTART
    if error.status < 500:
        return _POLICY_VIOLATION
    return _TRY_AGAIN_LATER if error.status == 503 else _INTERNAL_ERROR
