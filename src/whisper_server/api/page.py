"""`GET /` and `GET /docs`: the pages for people, and what they load."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_WEB = Path(__file__).parent.parent / "web"
# Browsers ask each time whether a file has changed, so that an upgrade never mixes old and new ones.
_FRESH = {"cache-control": "no-cache"}
_POLICY = {"content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"}


async def page(request: Request) -> Response:
    return FileResponse(_WEB / "index.html", headers=_FRESH | _POLICY)


async def docs(request: Request) -> Response:
    return FileResponse(_WEB / "docs.html", headers=_FRESH | _POLICY)


class Assets(StaticFiles):
    def __init__(self) -> None:
        super().__init__(directory=_WEB / "assets")

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_FRESH)
        return response
