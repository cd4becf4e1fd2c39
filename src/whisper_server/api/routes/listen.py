"""`WS /v1/listen`: live transcription for clients of Deepgram."""

from __future__ import annotations

from whisper_server.api.routes.stream import open_session
from whisper_server.api.state import ServerWebSocket
from whisper_server.api.streaming.deepgram import DeepgramAdapter, parse_listen
from whisper_server.api.streaming.websocket import Accepted, serve, subprotocol
from whisper_server.core.logs import request_id

# What browsers of Deepgram's clients put before the key.
_SUBPROTOCOLS = ("token", "bearer")


async def listen(websocket: ServerWebSocket) -> None:
    await serve(websocket, "listen", _accept)


def _accept(websocket: ServerWebSocket) -> Accepted:
    asked = parse_listen(websocket.query_params)
    session, model = open_session(websocket, asked.options)
    adapter = DeepgramAdapter(asked, model=model, request_id=request_id.get())
    return Accepted(adapter, session, subprotocol(websocket, _SUBPROTOCOLS), {"dg-request-id": request_id.get()})
