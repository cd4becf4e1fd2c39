"""Checks API keys. Without configured keys, every request is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import refuse, route_path
from whisper_server.core.api_keys import Keyring
from whisper_server.core.client_secrets import ClientSecret, ClientSecrets
from whisper_server.core.client_secrets import Scope as SecretScope
from whisper_server.core.errors import ScopeMissing, Unauthorized

# Paths without private data: health checks, and pages that are the same on every server.
_OPEN = ("/", "/docs", "/health", "/ready")
_OPEN_BELOW = "/web/"
# What affects all clients: keys with the scope `use` may not do it.
_ADMIN = ("/reload", "/unload", "/load")
_ADMIN_BELOW = "/v1/models/"
_ADMIN_METHODS = ("DELETE", "POST")
# What the holder of a client secret may request beside live sessions.
_REQUESTS: Mapping[SecretScope, Sequence[tuple[str, str]]] = {"live": (), "listen": (("POST", "/v1/listen"),)}
# Deepgram's clients send Token.
_SCHEMES = ("bearer", "token")
# Azure's clients send the first.
_KEY_HEADERS = ("api-key", "x-api-key")
_SUBPROTOCOL = "openai-insecure-api-key."


class AuthenticationMiddleware:
    """Refuses requests without a valid key before their body is read. Sets `state.key` to the name of the key.

    A client secret may be sent instead for what its scope allows. It becomes `state.client_secret`.
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring, client_secrets: ClientSecrets) -> None:
        self._app = app
        self._keyring = keyring
        self._client_secrets = client_secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not _is_open(route_path(scope)):
            state = scope.setdefault("state", {})
            secret = _secret(scope)
            client_secret = self._client_secret(scope, secret)
            if client_secret is not None:
                state["client_secret"] = client_secret
            if self._keyring:
                key = self._keyring.find(secret)
                if key is not None:
                    state["key"] = key.name
                    if key.scope != "admin" and _needs_admin(scope):
                        return await refuse(scope, receive, send, ScopeMissing())
                elif client_secret is not None:
                    state["key"] = client_secret.key
                else:
                    return await refuse(scope, receive, send, Unauthorized())
        await self._app(scope, receive, send)

    def _client_secret(self, scope: Scope, secret: str) -> ClientSecret | None:
        found = self._client_secrets.find(secret)
        if found is None or scope["type"] == "websocket":
            return found
        return found if (scope["method"], route_path(scope)) in _REQUESTS[found.scope] else None


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def _needs_admin(scope: Scope) -> bool:
    path = route_path(scope)
    return path in _ADMIN or (scope.get("method") in _ADMIN_METHODS and path.startswith(_ADMIN_BELOW))


def _secret(scope: Scope) -> str:
    headers = Headers(scope=scope)
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES:
        return secret.strip()
    if scope["type"] == "websocket" and (secret := _secret_of_browser(scope)):
        return secret
    return next((headers[name] for name in _KEY_HEADERS if name in headers), "")


def _secret_of_browser(scope: Scope) -> str:
    """Browsers can set the subprotocols and the query of a WebSocket, but not its headers."""
    offered: list[str] = list(scope.get("subprotocols", ()))
    for subprotocol, following in zip(offered, [*offered, ""][1:], strict=True):
        if subprotocol.startswith(_SUBPROTOCOL):
            return subprotocol.removeprefix(_SUBPROTOCOL)
        if subprotocol in _SCHEMES:
            return following
    try:
        query: dict[str, list[str]] = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=100)
    except ValueError:
        return ""
    return query.get("api_key", [""])[0]
