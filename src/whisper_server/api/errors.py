"""Errors as responses: in OpenAI's shape below /v1, in that of the reference project elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from whisper_server.core.errors import WhisperServerError

logger = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_RETRY_AFTER = "5"
# OpenAI's clients repeat a 409 and any 5xx, too, but with those a second attempt would end as the first did.
_WORTH_A_RETRY = (408, 429, 503)


def failure_response(path: str, exc: WhisperServerError) -> Response:
    """Return the error as the clients of that path (`route_path`) expect it."""
    if below_v1(path):
        return JSONResponse(openai_error(exc), exc.status, _with_advice(exc.status, exc.headers))
    return JSONResponse({"error": str(exc)}, exc.status, exc.headers)


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error that is none of ours, such as a path that leads nowhere."""
    if below_v1(path):
        return JSONResponse(_described(status, message), status, _with_advice(status, headers or {}))
    return JSONResponse({"error": message}, status, headers)


def openai_error(exc: WhisperServerError) -> dict[str, Any]:
    return _described(exc.status, str(exc), exc.param, exc.code)


def route_path(scope: Scope) -> str:
    """Return the path without that of a proxy, as the route table has it, before and after routing."""
    path: str = scope["path"]
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(f"{root}/") else path


def below_v1(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _described(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _with_advice(status: int, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Add whether and when to ask again, for clients that otherwise decide by the status."""
    if status in _WORTH_A_RETRY:
        return {"retry-after": _RETRY_AFTER, **headers}
    return {**headers, "x-should-retry": "false"}


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
