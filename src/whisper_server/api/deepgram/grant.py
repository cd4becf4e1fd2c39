"""`POST /v1/auth/grant`: short-lived keys for Deepgram's clients in web pages and apps."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_json
from whisper_server.api.state import ServerRequest, key_name
from whisper_server.core.errors import BadOption

MAX_SECONDS = 3600
DEFAULT_SECONDS = 30
_MAX_BODY_BYTES = 16 * 1024


async def grant(request: ServerRequest) -> Response:
    body = await read_json(request, max_bytes=_MAX_BODY_BYTES, example='{"ttl_seconds": 30}')
    seconds = _seconds(body.get("ttl_seconds"))
    token, _ = request.state.client_secrets.make(key_name(request), None, seconds=seconds, scope="listen")
    return JSONResponse({"access_token": token, "expires_in": seconds})


def _seconds(value: Any) -> int:
    """Clients send whole numbers also as 30.0."""
    if value is None:
        return DEFAULT_SECONDS
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_SECONDS:
        raise BadOption("ttl_seconds", value, f"a number from 1 to {MAX_SECONDS}")
    return int(value)
