"""The loaded models: `/v1/models`, `POST /reload` and `POST /unload`. An id may contain a slash, encoded or not."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_body
from whisper_server.api.state import ServerRequest
from whisper_server.core.errors import BadRequest
from whisper_server.engine.model_admin import ModelInfo

DEFAULT_MODEL = "medium"
MAX_BODY_BYTES = 64 * 1024


async def list_models(request: ServerRequest) -> Response:
    return JSONResponse({"object": "list", "data": [model_json(model) for model in request.state.models.list()]})


async def show_model(request: ServerRequest) -> Response:
    return JSONResponse(model_json(request.state.models.get(request.path_params["id"])))


async def delete_model(request: ServerRequest) -> Response:
    id = await request.state.models.unload(request.path_params["id"])
    return JSONResponse({"id": id, "object": "model", "deleted": True})


async def reload(request: ServerRequest) -> Response:
    name = model_name(await read_body(request, max_bytes=MAX_BODY_BYTES), default=DEFAULT_MODEL)
    model = await request.state.models.reload(name)
    return JSONResponse({"message": f"Model {model.name} loaded"})


async def unload(request: ServerRequest) -> Response:
    name = model_name(await read_body(request, max_bytes=MAX_BODY_BYTES), default="")
    model = await request.state.models.release(name)
    if model.in_use:
        return JSONResponse({"message": f"Model {model.id} is unloaded after the requests that use it"}, 202)
    return JSONResponse({"message": f"Model {model.id} unloaded"})


def model_json(model: ModelInfo) -> dict[str, Any]:
    created = {"created": model.loaded_at, "owned_by": "whisper-server", "state": model.state}
    memory = {} if model.memory is None else {"memory": asdict(model.memory)}
    return {"id": model.id, "object": "model", **created, **memory}


def model_name(body: bytes, *, default: str) -> str:
    """Return the `model_name` of a JSON body; raises BadRequest."""
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(fields, dict):
        raise BadRequest('the body is not a JSON object such as {"model_name": "medium"}')
    name = fields.get("model_name", default)
    if not isinstance(name, str) or (not name and "model_name" in fields):
        raise BadRequest("model_name is not the name of a model")
    return name
