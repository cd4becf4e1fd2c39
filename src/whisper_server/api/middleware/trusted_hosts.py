"""Accepts requests for known host names only.

A page of evil.example can point its own name to this machine's address (DNS rebinding). Then the browser considers the
server part of that page, but still sends `Host: evil.example`. IP addresses in `Host` are safe and always accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import refuse, route_path
from whisper_server.core.errors import HostRefused

_LOCAL = ("localhost", "*.localhost")
# Orchestrators use any host name, and the response is not private.
_PROBES = ("/health", "/ready")


class TrustedHostsMiddleware:
    """Refuses host names that are neither an IP address nor in `names`; `*.a.b` matches all names below a.b."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self._app = app
        self._names = (*_LOCAL, *names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and route_path(scope) not in _PROBES:
            host = Headers(scope=scope).get("host", "")
            if not self._is_trusted(hostname(host)):
                return await refuse(scope, receive, send, HostRefused(host))
        await self._app(scope, receive, send)

    def _is_trusted(self, name: str) -> bool:
        return bool(name) and (_is_address(name) or any(_matches(pattern, name) for pattern in self._names))


def hostname(host: str) -> str:
    """Return the name or address of a Host header in lower case, or an empty string if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        valid = parts.netloc == host and "@" not in host and (parts.port is None or parts.port >= 0)
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".") if valid else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _matches(pattern: str, name: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
