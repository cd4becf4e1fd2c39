"""Which web pages may use this server: its own, and those of the origins that the operator allows.

Browsers send cross-site POSTs and open WebSockets without asking, so any page could drive a server on localhost; but
they say in `Origin` whose page it is. Other clients send no Origin.
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

_HARMLESS = ("GET", "HEAD", "OPTIONS")
_METHODS = ("GET", "POST", "PUT", "DELETE")
_PORTS = {"http": 80, "https": 443}
_READABLE = (
    "x-request-id",
    "openai-processing-ms",
    "retry-after",
    "location",
    "idempotent-replayed",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)


class OriginCheckMiddleware:
    """Refuses what changes something, and WebSockets, from pages of other origins."""

    def __init__(self, app: ASGIApp, *, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _HARMLESS):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._may(origin.lower(), headers.get("host", "").lower()):
                return await refuse(scope, receive, send, OriginRefused(origin))
        await self._app(scope, receive, send)

    def _may(self, origin: str, host: str) -> bool:
        return "*" in self._allowed or origin in self._allowed or _same(origin, host)


def _same(origin: str, host: str) -> bool:
    """Whether the origin is this host's. A proxy may have ended TLS, so the scheme says only which port is usual."""
    try:
        page = urlsplit(origin)
        usual = _PORTS.get(page.scheme)
        return usual is not None and (page.hostname, page.port or usual) == _address(host, usual)
    except ValueError:
        return False


def _address(host: str, usual: int) -> tuple[str | None, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname, parts.port or usual


def cross_origin(allowed: Collection[str]) -> list[Middleware]:
    """Return what lets pages of these origins read the answers, and answers browsers that ask before they send."""
    if not allowed:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=_READABLE,
        )
    ]
