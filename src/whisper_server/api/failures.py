"""Errors as responses, in the reference project's shape, {"error": "…"}, or below /v1 in OpenAI's."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from whisper_server.api.openai_errors import described, error_body, retry_headers, speaks_openai
from whisper_server.errors import Overloaded, WhisperServerError

logger = logging.getLogger(__name__)


async def _known(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, WhisperServerError)
    logger.log(logging.ERROR if exc.status >= 500 else logging.INFO, "%s: %s", request.url.path, exc)
    if speaks_openai(request):
        return JSONResponse(error_body(exc), exc.status, retry_headers(exc, exc.status))
    headers = {"retry-after": str(exc.retry_after)} if isinstance(exc, Overloaded) else None
    return JSONResponse({"error": str(exc)}, exc.status, headers)


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if speaks_openai(request):
        headers = {**(exc.headers or {}), **retry_headers(None, exc.status_code)}
        message = f"{exc.detail} ({request.method} {request.url.path})"
        return JSONResponse(described(message, exc.status_code), exc.status_code, headers)
    return JSONResponse({"error": exc.detail}, exc.status_code, headers=exc.headers)


async def _disconnected(request: Request, exc: Exception) -> Response:
    """Nobody reads this answer; without it the client's departure would be logged as our failure."""
    logger.info("%s: the client left", request.url.path)
    return Response(status_code=400)


async def _unexpected(request: Request, exc: Exception) -> Response:
    if speaks_openai(request):
        return JSONResponse(described("internal server error", 500), 500, retry_headers(None, 500))
    return JSONResponse({"error": "internal server error"}, 500)


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    WhisperServerError: _known,
    HTTPException: _http,
    ClientDisconnect: _disconnected,
    Exception: _unexpected,
}
