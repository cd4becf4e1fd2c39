"""The shapes of an error: OpenAI's below /v1, the reference project's elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

_TYPES = {429: "rate_limit_error"}


def error_response(
    path: str,
    status: int,
    message: str,
    *,
    type: str | None = None,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the error as the clients of that path (`route_path`) expect it."""
    if not below_v1(path):
        return JSONResponse({"error": message}, status, headers)
    kind = type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


def route_path(scope: Scope) -> str:
    """Return the path without that of a proxy, as the route table has it, before and after routing."""
    path: str = scope["path"]
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(f"{root}/") else path


def below_v1(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")
