"""Errors as responses, in the shape of the API that was called."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from whisper_server.api.error_shapes import Problem, error_shape, is_below, openai_body
from whisper_server.core.errors import WhisperServerError

logger = logging.getLogger(__name__)

_RETRY_AFTER = "5"
# OpenAI's clients also retry 409 and all 5xx, but there a second attempt would end like the first.
_RETRYABLE = (408, 429, 503)


def failure_response(path: str, exc: WhisperServerError) -> Response:
    """Return the error in the shape of that path (as `route_path` returns it)."""
    return _shaped(path, _problem(exc), exc.headers)


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error that is not a WhisperServerError, such as an unknown path."""
    return _shaped(path, Problem(status, message), headers or {})


def error_body(path: str, exc: WhisperServerError) -> dict[str, Any]:
    """Return the body of `failure_response()`."""
    return error_shape(path).body(_problem(exc))


def openai_error(exc: WhisperServerError) -> dict[str, Any]:
    return openai_body(_problem(exc))


def _problem(exc: WhisperServerError) -> Problem:
    return Problem(exc.status, str(exc), exc.param, exc.code)


def _shaped(path: str, problem: Problem, headers: Mapping[str, str]) -> Response:
    shape = error_shape(path)
    headers = {**_with_retry_headers(problem.status, headers), **shape.headers(problem)}
    return JSONResponse(shape.body(problem), problem.status, headers)


def route_path(scope: Scope) -> str:
    """Return the path without the root path of a proxy, as in the route table; works before and after routing."""
    path: str = scope["path"]
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(f"{root}/") else path


def below_v1(path: str) -> bool:
    return is_below(path, "/v1")


def _with_retry_headers(status: int, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Add headers that say whether and when to retry, for clients that otherwise decide by the status."""
    if status in _RETRYABLE:
        return {"retry-after": _RETRY_AFTER, **headers}
    return {**headers, "x-should-retry": "false"}


async def refuse(scope: Scope, receive: Receive, send: Send, exc: WhisperServerError) -> None:
    """Refuse a request or the handshake of a WebSocket."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": str(exc)[:100]})
    else:
        await _response(scope, exc)(scope, receive, send)


def _response(scope: Scope, exc: WhisperServerError) -> Response:
    path = route_path(scope)
    scope.setdefault("state", {})["failure"] = type(exc)
    logger.log(exc.log_level, "%s: %s", path, exc)
    return failure_response(path, exc)


async def _whisper_server_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, WhisperServerError)
    return _response(request.scope, exc)


async def _http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    path = route_path(request.scope)
    return error_response(path, exc.status_code, f"{exc.detail} ({request.method} {path})", exc.headers)


async def _disconnected(request: Request, exc: Exception) -> Response:
    """Nobody reads this response, but without it the disconnect would be logged as an error."""
    request.state.failure = type(exc)
    logger.info("%s: the client disconnected", route_path(request.scope))
    return Response(status_code=400)


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    WhisperServerError: _whisper_server_error,
    HTTPException: _http_exception,
    ClientDisconnect: _disconnected,
}
