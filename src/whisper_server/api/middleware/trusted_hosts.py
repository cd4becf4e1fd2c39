"""Accepts requests for known host names only, on a server without API keys.

A page of evil.example can point its own name to this machine's address (DNS rebinding). Then the browser considers the
server part of that page, but still sends `Host: evil.example`. IP addresses in `Host` are safe and always accepted. So
are names that nobody can register on the internet, if the server is open to its network anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import refuse, route_path
from whisper_server.core.errors import HostRefused

# The last two are this machine as its containers see it.
_LOCAL = ("localhost", "*.localhost", "host.docker.internal", "host.containers.internal")
# Reserved for private networks, or not delegated.
_PRIVATE = ("*.local", "*.lan", "*.internal", "*.home.arpa")
# The names of containers, and of machines in a private network.
_SINGLE_LABEL = re.compile("[a-z0-9_-]+")
# Orchestrators use any host name, and the response is not private.
_PROBES = ("/health", "/ready")


class TrustedHostsMiddleware:
    """Refuses host names that are neither an IP address nor in `names`; `*.a.b` matches all names below a.b.

    `private_names` accepts all names that only exist in private networks.
    """

    def __init__(self, app: ASGIApp, *, names: Iterable[str], private_names: bool) -> None:
        self._app = app
        self._names = (*_LOCAL, *names, *(_PRIVATE if private_names else ()))
        self._private_names = private_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and route_path(scope) not in _PROBES:
            host = Headers(scope=scope).get("host", "")
            if not self._is_trusted(hostname(host)):
                return await refuse(scope, receive, send, HostRefused(host))
        await self._app(scope, receive, send)

    def _is_trusted(self, name: str) -> bool:
        if self._private_names and _SINGLE_LABEL.fullmatch(name):
            return True
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
