"""The models: `/v1/models`, `POST /reload` and `POST /unload`. An id may contain a slash, encoded or not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from whisper_server.api.requests.body import read_json
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG
from whisper_server.api.responses.keepalive_response import EVENTS, KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.sse import MEDIA_TYPE, sse
from whisper_server.api.state import ServerRequest
from whisper_server.core.errors import BadRequest
from whisper_server.engine.model_admin import ModelInfo
from whisper_server.engine.model_library import AvailableModel

_DEFAULT_MODEL = "medium"
_MAX_BODY_BYTES = 64 * 1024
_KEEPALIVE_SECONDS = 15.0

LIST = (Field("available", FLAG, "list what could be served instead of what is loaded (false)"),)
PULL = (Field("stream", FLAG, "send the progress as server-sent events (false)"),)
DELETE = (Field("files", FLAG, "delete the files of the model, too (false)"),)


async def list_models(request: ServerRequest) -> Response:
    if lists_available(request):
        models = await request.state.library.available()
        return JSONResponse({"object": "list", "data": [available_json(model) for model in models]})
    return JSONResponse({"object": "list", "data": [model_json(model) for model in request.state.models.list()]})


async def show_model(request: ServerRequest) -> Response:
    return JSONResponse(model_json(request.state.models.get(request.path_params["id"])))


async def pull_model(request: ServerRequest) -> ASGIApp:
    """Download a model; a client that disconnects does not end the download."""
    library = request.state.library
    streams = parse_fields(PULL, request.query_params).get("stream", MEDIA_TYPE in request.headers.get("accept", ""))
    pull = library.pull(request.path_params["id"])

    async def respond(body: KeepAliveBody) -> Response:
        return JSONResponse(available_json(await library.result(pull)))

    async def stream(body: KeepAliveBody) -> None:
        async for progress in library.follow(pull):
            share = progress.done / progress.total if progress.total else 0.0
            facts = {"bytes_done": progress.done, "bytes_total": progress.total, "progress": round(share, 4)}
            await body.write(sse({"type": "pull.progress", **facts}))
        model = await library.result(pull)
        await body.write(sse({"type": "pull.done", "model": available_json(model)}))

    if streams:
        return KeepAliveResponse(stream, EVENTS, interval=_KEEPALIVE_SECONDS)
    return KeepAliveResponse(respond, interval=keepalive_interval(request))


async def delete_model(request: ServerRequest) -> Response:
    """Unload a model; delete its files only if the request says so."""
    name, state = request.path_params["id"], request.state
    with_files = parse_fields(DELETE, request.query_params).get("files", False)
    id = await (state.library.delete(name) if with_files else state.models.unload(name))
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


def available_json(model: AvailableModel) -> dict[str, Any]:
    return {**asdict(model), "object": "model", "owned_by": "whisper-server"}


def lists_available(request: ServerRequest) -> bool:
    """Whether the query asks for what could be served; raises BadOption."""
    return bool(parse_fields(LIST, request.query_params).get("available", False))


async def requested_model(request: ServerRequest, *, default: str = _DEFAULT_MODEL) -> str:
    """Return the `model_name` of a JSON body; raises BadRequest or UploadTooLarge."""
    body = await read_json(request, max_bytes=_MAX_BODY_BYTES, example='{"model_name": "medium"}')
    name = body.get("model_name", default)
    if not isinstance(name, str) or (not name and "model_name" in body):
        raise BadRequest("model_name is not the name of a model")
    return name
