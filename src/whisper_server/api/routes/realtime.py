"""`WS /v1/realtime`: OpenAI's Realtime transcription; and the short-lived keys that pages use for it."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_body
from whisper_server.api.routes.stream import served_model
from whisper_server.api.state import ServerRequest, ServerWebSocket, key_name
from whisper_server.api.streaming.openai_config import JSON, Setup
from whisper_server.api.streaming.openai_protocol import RealtimeAdapter
from whisper_server.api.streaming.websocket import Accepted, serve, subprotocol
from whisper_server.core.client_secrets import ClientSecret
from whisper_server.core.errors import BadOption, BadRequest

_MOST_BYTES = 16 * 1024
_USUAL_SECONDS = 600
_SECONDS = range(10, 7201)
_BETA_HEADER = "realtime=v1"


async def realtime(websocket: ServerWebSocket) -> None:
    await serve(websocket, "realtime", _accept)


def _accept(websocket: ServerWebSocket) -> Accepted:
    session_factory = websocket.state.session_factory
    beta = _BETA_HEADER in websocket.headers.get("openai-beta", "")
    transcription = websocket.query_params.get("intent") == "transcription"
    setup = _setup(websocket)
    adapter = RealtimeAdapter(
        setup,
        session_factory.open,
        model=served_model(websocket.state.models, setup.options.model),
        expires_at=int(time.time() + websocket.state.sessions.max_seconds),
        beta=beta,
        created="transcription_session.created" if beta and transcription else "session.created",
    )
    return Accepted(adapter, session_factory.open(setup.options), subprotocol(websocket, ("realtime",)))


def _setup(websocket: ServerWebSocket) -> Setup:
    """What the pass says; the model in the address is of a conversation, if it is one of OpenAI's."""
    granted: ClientSecret | None = getattr(websocket.state, "granted", None)
    setup = Setup()
    model = websocket.query_params.get("model", "")
    if model and not model.startswith("gpt-"):
        setup = setup.changed({"audio": {"input": {"transcription": {"model": model}}}})
    return setup if granted is None else _changed(setup, **granted.session)


def _changed(setup: Setup, *, session: Any, beta: bool) -> Setup:
    return setup.changed_by_beta(session) if beta else setup.changed(session)


async def client_secrets(request: ServerRequest) -> Response:
    """GA's short-lived keys."""
    asked = await _body(request)
    value, expires_at, session = _granted(request, asked.get("session"), asked.get("expires_after"), beta=False)
    return JSONResponse({"value": value, "expires_at": expires_at, "session": session})


async def transcription_sessions(request: ServerRequest) -> Response:
    """The beta's."""
    asked = await _body(request)
    wanted = asked.get("client_secret")
    expires = wanted.get("expires_at") if isinstance(wanted, dict) else None
    session = {name: value for name, value in asked.items() if name != "client_secret"}
    value, expires_at, rendered = _granted(request, session, expires, beta=True)
    return JSONResponse({**rendered, "client_secret": {"value": value, "expires_at": expires_at}})


def _granted(request: ServerRequest, session: Any, expires: Any, *, beta: bool) -> tuple[str, int, JSON]:
    setup = _changed(Setup(), session=session, beta=beta)
    request.state.session_factory.open(setup.options)  # raises ModelNotFound now rather than with the first session
    content = {"session": session, "beta": beta}
    value, expires_at = request.state.client_secrets.make(key_name(request), content, seconds=_seconds(expires))
    identity = {"id": f"sess_{value[-24:]}", "object": "realtime.transcription_session", "expires_at": expires_at}
    model = served_model(request.state.models, setup.options.model)
    return value, expires_at, (setup.as_beta if beta else setup.as_ga)(identity, model=model)


def _seconds(expires: Any) -> int:
    asked = expires.get("seconds", _USUAL_SECONDS) if isinstance(expires, dict) else _USUAL_SECONDS
    if not isinstance(asked, int) or asked not in _SECONDS:
        allowed = f"a whole number from {_SECONDS.start} to {_SECONDS.stop - 1}"
        raise BadOption("expires_after.seconds", asked, allowed)
    return asked


async def _body(request: ServerRequest) -> dict[str, Any]:
    try:
        asked = json.loads(await read_body(request, max_bytes=_MOST_BYTES) or b"{}")
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(asked, dict):
        raise BadRequest("the body is not a JSON object")
    return asked
