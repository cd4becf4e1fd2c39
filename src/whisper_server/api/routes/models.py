"""The loaded models: `/v1/models`, `POST /reload` and `POST /unload`. An id may contain a slash, encoded or not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_json
from whisper_server.api.state import ServerRequest
from whisper_server.core.errors import BadRequest
from whisper_server.engine.model_admin import ModelInfo

_DEFAULT_MODEL = "medium"
_MAX_BODY_BYTES = 64 * 1024


async def list_models(request: ServerRequest) -> Response:
    return JSONResponse({"object": "list", "data": [model_json(model) for model in request.state.models.list()]})


async def show_model(request: ServerRequest) -> Response:
    return JSONResponse(model_json(request.state.models.get(request.path_params["id"])))


async def delete_model(request: ServerRequest) -> Response:
    id = await request.state.models.unload(request.path_params["id"])
    return JSONResponse({"id": id, "object": "model", "deleted": True})


async def reload(request: ServerRequest) -> Response:
    model = await request.state.models.reload(await requested_model(request))
    return JSONResponse({"message": f"Model {model.id} loaded"})


async def unload(request: ServerRequest) -> Response:
    model = await request.state.models.release(await requested_model(request, default=""))
    if model.in_use:
        return JSONResponse({"message": f"Model {model.id} is unloaded after the requests that use it"}, 202)
    return JSONResponse({"message": f"Model {model.id} unloaded"})


def model_json(model: ModelInfo) -> dict[str, Any]:
    created = {"created": model.loaded_at, "owned_by": "whisper-server", "state": model.state}
    memory = {} if model.memory is None else {"memory": asdict(model.memory)}
    alias = {"alias_of": model.alias_of} if model.alias_of else {}
    return {"id": model.id, "object": "model", **created, **alias, **memory}


async def requested_model(request: ServerRequest, *, default: str = _DEFAULT_MODEL) -> str:
    """Return the `model_name` of a JSON body; raises BadRequest or UploadTooLarge."""
    body = await read_json(request, max_bytes=_MAX_BODY_BYTES, example='{"model_name": "medium"}')
    name = body.get("model_name", default)
    if not isinstance(name, str) or (not name and "model_name" in body):
        raise BadRequest("model_name is not the name of a model")
    return name
