"""`/v1/stream`: live transcription over a WebSocket, or over one POST whose response is sent while its body arrives."""

from __future__ import annotations

from starlette.types import ASGIApp

from whisper_server.api.state import ServerConnection, ServerRequest, ServerWebSocket
from whisper_server.api.streaming.http_duplex import NDJSON, SERVER_SENT_EVENTS, HTTPDuplexResponse
from whisper_server.api.streaming.native import NativeAdapter, parse_stream
from whisper_server.api.streaming.websocket import Accepted, serve
from whisper_server.core.errors import BadOption
from whisper_server.live.session import Session, SessionOptions

# L16 is big-endian by RFC 2586, but live senders use little-endian.
_MEDIA_TYPES = {
    "audio/l16": {"encoding": "pcm16"},
    "audio/pcm": {"encoding": "pcm16"},
    "audio/pcmu": {"encoding": "mulaw", "rate": "8000"},
    "audio/basic": {"encoding": "mulaw", "rate": "8000"},
    "audio/pcma": {"encoding": "alaw", "rate": "8000"},
    "audio/wav": {"encoding": "wav"},
    "audio/wave": {"encoding": "wav"},
    "audio/x-wav": {"encoding": "wav"},
    "audio/vnd.wave": {"encoding": "wav"},
    # The defaults of curl and others.
    "application/x-www-form-urlencoded": {},
    "application/octet-stream": {},
    "": {},
}


async def stream_socket(websocket: ServerWebSocket) -> None:
    await serve(websocket, "stream", _accept)


def _accept(websocket: ServerWebSocket) -> Accepted:
    request = parse_stream(websocket.query_params)
    session, model = open_session(websocket, request.options)
    return Accepted(NativeAdapter(request, model=model), session)


async def stream(request: ServerRequest) -> ASGIApp:
    media_type_options = _media_type_options(request.headers.get("content-type", ""))
    stream_request = parse_stream({**media_type_options, **request.query_params})
    session, model = open_session(request, stream_request.options)
    adapter = NativeAdapter(stream_request, model=model, ready_on_open=False)
    accepts_events = SERVER_SENT_EVENTS.media_type in request.headers.get("accept", "")
    format = SERVER_SENT_EVENTS if accepts_events else NDJSON
    return HTTPDuplexResponse(adapter, session, request.state.sessions, format)


def open_session(client: ServerConnection, options: SessionOptions) -> tuple[Session, str]:
    """Return a session, not yet entered, and the id of its model; raises ModelNotFound or BadOption."""
    return client.state.session_factory.open(options), client.state.models.id_of(options.model)


def _media_type_options(content_type: str) -> dict[str, str]:
    media_type, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if media_type not in _MEDIA_TYPES:
        raise BadOption("content-type", media_type, "audio/wav or audio/l16;rate=16000, or none")
    values = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
    return {**_MEDIA_TYPES[media_type], **{name: values[name] for name in ("rate", "channels") if name in values}}
