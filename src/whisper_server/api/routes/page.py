"""`GET /` and `GET /docs`: the pages for people, and what they load."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from whisper_server import __version__
from whisper_server.api.state import ServerRequest

_WEB = Path(__file__).parents[2] / "web"
# Browsers ask each time whether a file has changed, so that an upgrade never mixes old and new ones.
_FRESH = {"cache-control": "no-cache"}
_POLICY = {
    # A recording that was chosen or made in the page has a blob: address.
    "content-security-policy": "default-src 'self'; script-src 'self'; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


async def page(request: ServerRequest) -> Response:
    return FileResponse(_WEB / "index.html", headers=_FRESH | _POLICY)


async def docs(request: ServerRequest) -> Response:
    return FileResponse(_WEB / "docs.html", headers=_FRESH | _POLICY)


async def server_facts(request: ServerRequest) -> Response:
    """What the page has to know before it asks for anything that a server may refuse."""
    settings = request.state.settings
    wants_key = bool(settings.api_key or settings.api_key_file)
    facts = {"version": __version__, "key": wants_key, "jobs": settings.jobs, "live": settings.max_sessions > 0}
    return JSONResponse(facts, headers=_FRESH)


class Assets(StaticFiles):
    def __init__(self) -> None:
        super().__init__(directory=_WEB / "assets")

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_FRESH)
        return response
