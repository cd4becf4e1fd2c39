"""`POST /unload`: the memory of a model, until a request wants it again."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_body
from whisper_server.api.routes.reload import MAX_BODY_BYTES, model_name
from whisper_server.engine.transcriber import Engine


async def unload(request: Request) -> Response:
    engine: Engine = request.state.engine
    name = model_name(await read_body(request, max_bytes=MAX_BODY_BYTES), default="")
    model = await engine.release(name)
    if model is not None and model.users:
        return JSONResponse({"message": f"Model {model.id} is unloaded after the requests that use it"}, 202)
    return JSONResponse({"message": f"Model {model.id if model is not None else engine.name} unloaded"})
