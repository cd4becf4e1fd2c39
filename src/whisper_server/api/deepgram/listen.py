"""`WS /v1/listen`: live transcription for Deepgram's clients."""

from __future__ import annotations

from whisper_server.api.deepgram.live import DeepgramAdapter
from whisper_server.api.deepgram.live_options import parse_listen
from whisper_server.api.errors import refuse
from whisper_server.api.routes.stream import open_session
from whisper_server.api.state import ServerWebSocket
from whisper_server.api.streaming.websocket import Accepted, serve, subprotocol
from whisper_server.core.errors import PathNotFound
from whisper_server.core.logs import request_id

# Deepgram's clients in browsers send one of these, followed by the key.
_SUBPROTOCOLS = ("token", "bearer")


async def listen(websocket: ServerWebSocket) -> None:
    await serve(websocket, "listen", _accept)


async def listen_v2(websocket: ServerWebSocket) -> None:
    """Refuse Flux, which detects the turns of a conversation from the words."""
    exc = PathNotFound("this server has no Flux (/v2/listen): use a model such as nova-3, whose path is /v1/listen")
    await refuse(websocket.scope, websocket.receive, websocket.send, exc)


def _accept(websocket: ServerWebSocket) -> Accepted:
    request = parse_listen(websocket.query_params)
    session, model = open_session(websocket, request.options)
    adapter = DeepgramAdapter(request, model=model, request_id=request_id.get())
    return Accepted(adapter, session, subprotocol(websocket, _SUBPROTOCOLS))
