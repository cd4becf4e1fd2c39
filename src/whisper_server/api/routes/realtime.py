"""`WS /v1/realtime`: OpenAI's Realtime transcription; and the client secrets that pages use for it."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import JSONResponse, Response

from whisper_server.api.requests.body import read_json
from whisper_server.api.state import ServerRequest, ServerWebSocket, key_name
from whisper_server.api.streaming.openai_config import JSON, RealtimeConfig
from whisper_server.api.streaming.openai_protocol import RealtimeAdapter
from whisper_server.api.streaming.websocket import Accepted, serve, subprotocol
from whisper_server.core.client_secrets import ClientSecret
from whisper_server.core.errors import BadOption

_MAX_BODY_BYTES = 16 * 1024
_DEFAULT_SECONDS = 600
_SECONDS = range(10, 7201)
_BETA_HEADER = "realtime=v1"


async def realtime(websocket: ServerWebSocket) -> None:
    await serve(websocket, "realtime", _accept)


def _accept(websocket: ServerWebSocket) -> Accepted:
    session_factory = websocket.state.session_factory
    beta = _BETA_HEADER in websocket.headers.get("openai-beta", "")
    transcription = websocket.query_params.get("intent") == "transcription"
    config = _initial_config(websocket)
    session = session_factory.open(config.options)
    adapter = RealtimeAdapter(
        config,
        session_factory.open,
        model=websocket.state.models.id_of(config.options.model),
        expires_at=int(time.time() + websocket.state.sessions.max_seconds),
        beta=beta,
        created_type="transcription_session.created" if beta and transcription else "session.created",
    )
    return Accepted(adapter, session, subprotocol(websocket, ("realtime",)))


def _initial_config(websocket: ServerWebSocket) -> RealtimeConfig:
    """Return the configuration by the query and the client secret."""
    secret: ClientSecret | None = getattr(websocket.state, "client_secret", None)
    config = RealtimeConfig()
    model = websocket.query_params.get("model", "")
    if model:
        config = config.updated({"audio": {"input": {"transcription": {"model": model}}}}, beta=False)
    return config if secret is None or secret.session is None else config.updated(**secret.session)


async def client_secrets(request: ServerRequest) -> Response:
    """Create a client secret of the GA API."""
    body = await read_json(request, max_bytes=_MAX_BODY_BYTES, example='{"session": {"type": "transcription"}}')
    value, expires_at, session = _create_secret(request, body.get("session"), body.get("expires_after"), beta=False)
    return JSONResponse({"value": value, "expires_at": expires_at, "session": session})


async def transcription_sessions(request: ServerRequest) -> Response:
    """Create a client secret of the beta API."""
    body = await read_json(request, max_bytes=_MAX_BODY_BYTES, example='{"input_audio_format": "pcm16"}')
    secret = body.pop("client_secret", None)
    expires_after = secret.get("expires_at") if isinstance(secret, dict) else None
    value, expires_at, session = _create_secret(request, body, expires_after, beta=True)
    return JSONResponse({**session, "client_secret": {"value": value, "expires_at": expires_at}})


def _create_secret(request: ServerRequest, session: Any, expires_after: Any, *, beta: bool) -> tuple[str, int, JSON]:
    """Return the secret, when it expires in seconds since 1970, and the full session object."""
    config = RealtimeConfig().updated(session, beta=beta)
    request.state.session_factory.open(config.options)  # an unknown model is an error now, not on the first connection
    content = {"session": session, "beta": beta}
    value, expires_at = request.state.client_secrets.make(key_name(request), content, seconds=_seconds(expires_after))
    identity = {"id": f"sess_{value[-24:]}", "object": "realtime.transcription_session", "expires_at": expires_at}
    model = request.state.models.id_of(config.options.model)
    return value, expires_at, config.to_json(identity, model=model, beta=beta)


def _seconds(expires_after: Any) -> int:
    seconds = expires_after.get("seconds", _DEFAULT_SECONDS) if isinstance(expires_after, dict) else _DEFAULT_SECONDS
    if not isinstance(seconds, int) or seconds not in _SECONDS:
        allowed = f"a whole number from {_SECONDS.start} to {_SECONDS.stop - 1}"
        raise BadOption("expires_after.seconds", seconds, allowed)
    return seconds
