"""The shapes of an error: OpenAI's below /v1, the reference project's elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from whisper_server.core.errors import WhisperServerError

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
