"""Errors as responses."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from whisper_server.api.errors import below_v1, error_response, failure_response, route_path
from whisper_server.core.errors import WhisperServerError

logger = logging.getLogger(__name__)


async def refuse(scope: Scope, receive: Receive, send: Send, exc: WhisperServerError) -> None:
    """Answer a request or a handshake at the door; an open WebSocket is not meant."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": str(exc)[:100]})
    else:
        await _response(scope, exc)(scope, receive, send)


def _response(scope: Scope, exc: WhisperServerError) -> Response:
    path = route_path(scope)
    scope.setdefault("state", {})["failure"] = type(exc)
    logger.log(logging.ERROR if exc.status >= 500 else logging.INFO, "%s: %s", path, exc)
    return failure_response(path, exc)


async def _known(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, WhisperServerError)
    return _response(request.scope, exc)


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    path = route_path(request.scope)
    message = f"{exc.detail} ({request.method} {path})" if below_v1(path) else exc.detail
    return error_response(path, exc.status_code, message, exc.headers)


async def _disconnected(request: Request, exc: Exception) -> Response:
    """Nobody reads this answer; without it the client's departure would be logged as our failure."""
    request.state.failure = type(exc)
    logger.info("%s: the client left", route_path(request.scope))
    return Response(status_code=400)


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    WhisperServerError: _known,
    HTTPException: _http,
    ClientDisconnect: _disconnected,
}
