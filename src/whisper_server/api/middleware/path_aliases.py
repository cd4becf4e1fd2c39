"""Maps the paths that clients of other servers send, and slips in a base URL, to this server's paths."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import route_path

# The first match counts. Groq has /openai/v1; the others are base URLs with a /v1 too few or too many.
_PREFIXES = (
    ("/openai/v1/", "/v1/"),
    ("/v1/v1/", "/v1/"),
    ("/audio/", "/v1/audio/"),
    ("/models", "/v1/models"),
    ("/realtime", "/v1/realtime"),
)
# Azure's clients name the model as a deployment.
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)(/audio/.+)")
_SLASHES = re.compile("//+")
# The folder of the page's files, as the redirect of the route table expects it.
_FOLDER = "/web/"


class PathAliasesMiddleware:
    """Replaces the path of a request before anything else reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = route_path(scope)
            canonical, query = canonical_path(path)
            if canonical != path:
                root = scope["path"].removesuffix(path)
                query_string = b"&".join(filter(None, [query.encode(), scope["query_string"]]))
                scope = {**scope, "path": root + canonical, "query_string": query_string}
        await self._app(scope, receive, send)


def canonical_path(path: str) -> tuple[str, str]:
    """Return the path of the route table, and parameters that were part of the path."""
    path = _SLASHES.sub("/", path)
    path = path if path == _FOLDER else path.rstrip("/") or "/"
    if deployment := _DEPLOYMENT.fullmatch(path):
        return f"/v1{deployment[2]}", f"model={quote(deployment[1], safe='')}"
    for prefix, replacement in _PREFIXES:
        if path.startswith(prefix) and (prefix.endswith("/") or path[len(prefix) :][:1] in ("", "/")):
            return replacement + path.removeprefix(prefix), ""
    return path, ""
