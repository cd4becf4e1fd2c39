"""`GET /` and `GET /docs`: the web pages and their assets."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from whisper_server import __version__
from whisper_server.api.state import ServerRequest

_WEB = Path(__file__).parents[2] / "web"
# Browsers revalidate each file, so that an upgrade never mixes old and new ones.
_REVALIDATE = {"cache-control": "no-cache"}
_POLICY = {
    # Recordings that were chosen or made in the page have blob: URLs.
    "content-security-policy": "default-src 'self'; script-src 'self'; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


async def page(request: ServerRequest) -> Response:
    return FileResponse(_WEB / "index.html", headers=_REVALIDATE | _POLICY)


async def docs(request: ServerRequest) -> Response:
    return FileResponse(_WEB / "docs.html", headers=_REVALIDATE | _POLICY)


async def server_features(request: ServerRequest) -> Response:
    """Tell the page which features are enabled, so that it makes no request that would be rejected."""
    settings = request.state.settings
    key_required = bool(settings.api_key or settings.api_key_file)
    features = {"version": __version__, "key": key_required, "jobs": settings.jobs, "live": settings.max_sessions > 0}
    return JSONResponse(features, headers=_REVALIDATE)


class Assets(StaticFiles):
    def __init__(self) -> None:
        super().__init__(directory=_WEB / "assets")

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_REVALIDATE)
        return response
