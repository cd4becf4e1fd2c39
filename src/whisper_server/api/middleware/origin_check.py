"""Accepts web pages of this server and of the allowed origins only.

Browsers send cross-site POSTs and open WebSockets without a preflight, so any page could control a server on localhost;
but they send the page's `Origin`. Other clients send none.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import refuse
from whisper_server.core.errors import OriginRefused

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_PREFLIGHT = "access-control-request-method"
_METHODS = ("GET", "POST", "PUT", "DELETE")
_PORTS = {"http": 80, "https": 443}
_EXPOSED_HEADERS = (
    "x-request-id",
    "dg-request-id",
    "dg-error",
    "openai-processing-ms",
    "retry-after",
    "location",
    "idempotent-replayed",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)


class OriginCheckMiddleware:
    """Refuses unsafe methods, their preflights, and WebSockets from pages of other origins."""

    def __init__(self, app: ASGIApp, *, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            allowed = origin is None or self._is_allowed(origin.lower(), headers.get("host", "").lower())
            if not allowed and _is_checked(scope, headers):
                return await refuse(scope, receive, send, OriginRefused(origin or ""))
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return "*" in self._allowed or origin in self._allowed or _is_same_origin(origin, host)


def _is_checked(scope: Scope, headers: Headers) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS or _PREFLIGHT in headers


def _is_same_origin(origin: str, host: str) -> bool:
    """Compare host and port. A proxy may terminate TLS, so the scheme only gives the default port."""
    try:
        page = urlsplit(origin)
        default_port = _PORTS.get(page.scheme)
        return default_port is not None and (page.hostname, page.port or default_port) == _address(host, default_port)
    except ValueError:
        return False


def _address(host: str, default_port: int) -> tuple[str | None, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname, parts.port or default_port


def cross_origin(allowed: Collection[str]) -> list[Middleware]:
    """Return the CORS middleware for these origins, if there are any."""
    if not allowed:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    ]
