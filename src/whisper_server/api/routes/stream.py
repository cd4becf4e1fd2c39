"""`/v1/stream`: live audio in, words out, over a WebSocket or over one POST whose answer comes meanwhile."""

from __future__ import annotations

from starlette.types import ASGIApp

from whisper_server.api.state import ServerConnection, ServerRequest, ServerWebSocket
from whisper_server.api.streaming.http_duplex import NOTATIONS, HTTPDuplexResponse
from whisper_server.api.streaming.native import NativeAdapter, parse_stream
from whisper_server.api.streaming.websocket import Accepted, serve
from whisper_server.core.errors import BadOption, ModelNotFound
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.live.session import Session, SessionOptions

# What the body's media type says of it. L16 is big-endian by RFC 2586, but what sends it live is not.
_ENCODINGS = {
    "audio/l16": {"encoding": "pcm16"},
    "audio/pcm": {"encoding": "pcm16"},
    "audio/pcmu": {"encoding": "mulaw", "rate": "8000"},
    "audio/basic": {"encoding": "mulaw", "rate": "8000"},
    "audio/pcma": {"encoding": "alaw", "rate": "8000"},
    "audio/wav": {"encoding": "wav"},
    "audio/wave": {"encoding": "wav"},
    "audio/x-wav": {"encoding": "wav"},
    "audio/vnd.wave": {"encoding": "wav"},
    # What curl and others say if they are not told.
    "application/x-www-form-urlencoded": {},
    "application/octet-stream": {},
    "": {},
}


async def stream_socket(websocket: ServerWebSocket) -> None:
    await serve(websocket, "stream", _accept)


def _accept(websocket: ServerWebSocket) -> Accepted:
    asked = parse_stream(websocket.query_params)
    session, model = open_session(websocket, asked.options)
    return Accepted(NativeAdapter(asked, model=model), session)


async def stream(request: ServerRequest) -> ASGIApp:
    asked = parse_stream({**_of_media_type(request.headers.get("content-type", "")), **request.query_params})
    session, model = open_session(request, asked.options)
    adapter = NativeAdapter(asked, model=model, greet=False)
    wanted = request.headers.get("accept", "")
    notation = next((known for known in reversed(NOTATIONS) if known.media_type in wanted), NOTATIONS[0])
    return HTTPDuplexResponse(adapter, session, request.state.sessions, notation=notation)


def open_session(client: ServerConnection, options: SessionOptions) -> tuple[Session, str]:
    """Return a session, to be entered, and the name of its model; raises ModelNotFound or BadOption."""
    return client.state.session_factory.open(options), served_model(client.state.models, options.model)


def served_model(models: ModelAdmin, name: str) -> str:
    """Return the name of the model that serves requests for `name`, which is also the name of one loaded on demand."""
    try:
        return models.get(name).name
    except ModelNotFound:
        return name or models.name


def _of_media_type(header: str) -> dict[str, str]:
    media_type, *parameters = (part.strip() for part in header.lower().split(";"))
    if media_type not in _ENCODINGS:
        raise BadOption("content-type", media_type, "audio/wav or audio/l16;rate=16000, or none")
    given = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
    return {**_ENCODINGS[media_type], **{name: given[name] for name in ("rate", "channels") if name in given}}
