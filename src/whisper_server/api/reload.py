"""`POST /reload`: another model for the requests to come."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.api.forms import read_body
from whisper_server.engine import Engine
from whisper_server.errors import BadRequest

_DEFAULT_MODEL = "medium"
_MAX_BODY_BYTES = 64 * 1024


async def reload(request: Request) -> Response:
    engine: Engine = request.state.engine
    name = _model_name(await read_body(request, max_bytes=_MAX_BODY_BYTES))
    model = await engine.reload(name)
    return JSONResponse({"message": f"Model {model.name} loaded"})


def _model_name(body: bytes) -> str:
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(asked, dict):
        raise BadRequest('the body is not a JSON object such as {"model_name": "medium"}')
    name = asked.get("model_name", _DEFAULT_MODEL)
    if not isinstance(name, str) or not name:
        raise BadRequest("model_name is not the name of a model")
    return name
