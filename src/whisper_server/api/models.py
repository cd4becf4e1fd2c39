"""`GET /v1/models`, and `GET` and `DELETE /v1/models/{id}`: what is loaded. An id may have a slash, encoded or not."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.engine import Engine


async def list_models(request: Request) -> Response:
    engine: Engine = request.state.engine
    return JSONResponse({"object": "list", "data": [_described(m.id, m.loaded_at) for m in engine.models]})


async def show_model(request: Request) -> Response:
    engine: Engine = request.state.engine
    model = engine.model(request.path_params["id"])
    return JSONResponse(_described(model.id, model.loaded_at))


async def delete_model(request: Request) -> Response:
    engine: Engine = request.state.engine
    id = await engine.unload(request.path_params["id"])
    return JSONResponse({"id": id, "object": "model", "deleted": True})


def _described(id: str, loaded_at: int) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": loaded_at, "owned_by": "whisper-server"}
