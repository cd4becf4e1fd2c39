"""What the endpoints share, typed once: `request.state` of a ServerRequest is an AppState."""

from __future__ import annotations

from typing import TypeAlias

from anyio import CapacityLimiter
from starlette.datastructures import State
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from whisper_server.api.metrics import Metrics
from whisper_server.api.single_flight import SingleFlight
from whisper_server.core.client_secrets import ClientSecrets
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.model_library import ModelLibraryAdmin
from whisper_server.engine.transcriber import Transcriber
from whisper_server.jobs.service import Jobs
from whisper_server.live.session import SessionFactory
from whisper_server.live.session_limits import SessionLimits


class AppState(State):
    """The lifespan provides all of these. Middleware adds `key`, the name of the client's API key, if there is one.

    `json_bodies` limits how many bodies with audio in JSON are decoded at a time, as they take memory.
    """

    transcriber: Transcriber
    models: ModelAdmin
    library: ModelLibraryAdmin
    jobs: Jobs
    session_factory: SessionFactory
    sessions: SessionLimits
    client_secrets: ClientSecrets
    settings: Settings
    metrics: Metrics
    single_flight: SingleFlight
    json_bodies: CapacityLimiter


ServerRequest: TypeAlias = Request[AppState]
ServerWebSocket: TypeAlias = WebSocket[AppState]
ServerConnection: TypeAlias = HTTPConnection[AppState]


def key_name(connection: ServerConnection) -> str | None:
    """Return the name of the client's API key; None on a server without keys."""
    name: str | None = getattr(connection.state, "key", None)
    return name
