"""`POST /reload`: another model for the requests to come."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_body
from whisper_server.core.errors import BadRequest
from whisper_server.engine.transcriber import Engine

DEFAULT_MODEL = "medium"
MAX_BODY_BYTES = 64 * 1024


async def reload(request: Request) -> Response:
    engine: Engine = request.state.engine
    name = model_name(await read_body(request, max_bytes=MAX_BODY_BYTES), default=DEFAULT_MODEL)
    model = await engine.reload(name)
    return JSONResponse({"message": f"Model {model.name} loaded"})


def model_name(body: bytes, *, default: str) -> str:
    """Return the `model_name` of a JSON body; raises BadRequest."""
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(asked, dict):
        raise BadRequest('the body is not a JSON object such as {"model_name": "medium"}')
    name = asked.get("model_name", default)
    if not isinstance(name, str) or (not name and "model_name" in asked):
        raise BadRequest("model_name is not the name of a model")
    return name
