"""The application: routes, middleware and lifespan."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_bytes
from socket import gethostname
from typing import Any

from anyio import CapacityLimiter, create_task_group, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from whisper_server import bootstrap
from whisper_server.api.compatible import asr_webservice, whisper_cpp
from whisper_server.api.deepgram.grant import grant
from whisper_server.api.deepgram.listen import listen, listen_v2
from whisper_server.api.deepgram.prerecorded import prerecorded
from whisper_server.api.errors import HANDLERS
from whisper_server.api.metrics import Metrics
from whisper_server.api.middleware.authentication import AuthenticationMiddleware
from whisper_server.api.middleware.origin_check import OriginCheckMiddleware, cross_origin
from whisper_server.api.middleware.path_aliases import PathAliasesMiddleware
from whisper_server.api.middleware.rate_limits import RateLimitMiddleware
from whisper_server.api.middleware.request_log import RequestLogMiddleware
from whisper_server.api.middleware.trusted_hosts import TrustedHostsMiddleware
from whisper_server.api.middleware.upload_limits import UploadLimitMiddleware
from whisper_server.api.openapi.document import openapi
from whisper_server.api.routes import jobs, models, page, realtime, system
from whisper_server.api.routes.alignments import alignments
from whisper_server.api.routes.recognise import recognise
from whisper_server.api.routes.speech_activity import speech_activity
from whisper_server.api.routes.stream import stream, stream_socket
from whisper_server.api.routes.transcriptions import transcriptions, translations
from whisper_server.api.single_flight import SingleFlight
from whisper_server.api.streaming.websocket import unknown_path
from whisper_server.core.addresses import is_loopback
from whisper_server.core.api_keys import Keyring
from whisper_server.core.client_secrets import ClientSecrets
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.model_library import ModelLibraryAdmin
from whisper_server.inference.models.manager import ModelManager
from whisper_server.jobs.storage.database import Database
from whisper_server.live.session import SessionFactory

ROUTES = [
    Route("/", page.page),
    Route("/recognise", recognise, methods=["POST"]),
    Route("/reload", models.reload, methods=["POST"]),
    Route("/unload", models.unload, methods=["POST"]),
    Route("/asr", asr_webservice.asr, methods=["POST"]),
    Route("/detect-language", asr_webservice.detect_language, methods=["POST"]),
    Route("/inference", whisper_cpp.inference, methods=["POST"]),
    Route("/load", whisper_cpp.load, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
    Route("/v1/audio/translations", translations, methods=["POST"]),
    Route("/v1/audio/alignments", alignments, methods=["POST"]),
    Route("/v1/audio/speech-activity", speech_activity, methods=["POST"]),
    *jobs.routes("/v1/jobs"),
    *jobs.routes("/jobs"),
    Route("/v1/stream", stream, methods=["POST", "PUT"]),
    WebSocketRoute("/v1/stream", stream_socket),
    WebSocketRoute("/v1/listen", listen),
    Route("/v1/listen", prerecorded, methods=["POST"]),
    WebSocketRoute("/v2/listen", listen_v2),
    Route("/v1/auth/grant", grant, methods=["POST"]),
    WebSocketRoute("/v1/realtime", realtime.realtime),
    Route("/v1/realtime/client_secrets", realtime.client_secrets, methods=["POST"]),
    Route("/v1/realtime/transcription_sessions", realtime.transcription_sessions, methods=["POST"]),
    Route("/v1/models", models.list_models),
    Route("/v1/models/{id:path}", models.show_model),
    Route("/v1/models/{id:path}", models.pull_model, methods=["POST"]),
    Route("/v1/models/{id:path}", models.delete_model, methods=["DELETE"]),
    Route("/health", system.health),
    Route("/ready", system.ready),
    Route("/metrics", system.metrics),
    Route("/openapi.json", openapi),
    Route("/docs", page.docs),
    Route("/web/server.json", page.server_features),
    Mount("/web", page.Assets()),
]


def create_app(
    settings: Settings | None = None,
    manager: ModelManager | None = None,
    *,
    before: Sequence[BaseRoute] = (),
    secret: bytes | None = None,
) -> Starlette:
    """Return the ASGI application; without a manager, the lifespan loads the model. Raises SettingsError.

    Without settings, those of the environment apply, for servers such as `uvicorn --factory`. The routes `before` take
    precedence. Servers that share a `secret` accept each other's client secrets.
    """
    settings = settings or bootstrap.settings_from_environment(os.environ)
    metrics = Metrics()
    client_secrets = ClientSecrets(secret or token_bytes(32))
    lifespan = partial(_lifespan, settings, manager, bootstrap.build_database(settings), metrics, client_secrets)
    return Starlette(
        routes=[*before, *ROUTES, WebSocketRoute("/{path:path}", unknown_path)],
        exception_handlers=HANDLERS,
        lifespan=lambda app: lifespan(),
        middleware=_middleware(settings, metrics, client_secrets),
    )


@asynccontextmanager
async def _lifespan(
    settings: Settings,
    manager: ModelManager | None,
    database: Database,
    metrics: Metrics,
    client_secrets: ClientSecrets,
) -> AsyncIterator[dict[str, Any]]:
    """Yield the fields of `api.state.AppState`."""
    loaded = await to_thread.run_sync(bootstrap.load_models, settings) if manager is None else manager
    transcriber = bootstrap.build_transcriber(settings, loaded, metrics)
    admin = ModelAdmin(loaded)
    service = bootstrap.build_jobs(settings, transcriber, database)
    sessions = bootstrap.build_session_limits(settings)
    with metrics.watching(admin, service, sessions):
        async with create_task_group() as group, service.serving():
            yield {
                "transcriber": transcriber,
                "models": admin,
                "library": ModelLibraryAdmin(loaded, group),
                "jobs": service,
                "session_factory": SessionFactory(transcriber),
                "sessions": sessions,
                "client_secrets": client_secrets,
                "settings": settings,
                "metrics": metrics,
                "single_flight": SingleFlight(group),
                "json_bodies": CapacityLimiter(1),
            }
            group.cancel_scope.cancel()
    if manager is None:
        loaded.close()


def _middleware(settings: Settings, metrics: Metrics, client_secrets: ClientSecrets) -> list[Middleware]:
    """From the outermost, which sees the final response, to the innermost.

    A page of another host or origin does not know an API key, so servers with keys accept all hosts and origins.
    """
    keyring = Keyring.load(settings)
    hosts = ("*",) if keyring else (settings.host, gethostname().lower(), *settings.allow_host)
    origins = settings.allow_origin or (("*",) if keyring else ())
    return [
        Middleware(PathAliasesMiddleware),
        Middleware(RequestLogMiddleware, metrics=metrics),
        Middleware(TrustedHostsMiddleware, names=hosts, private_names=not is_loopback(settings.host)),
        *cross_origin(origins),
        Middleware(OriginCheckMiddleware, allowed=origins),
        Middleware(AuthenticationMiddleware, keyring=keyring, client_secrets=client_secrets),
        Middleware(RateLimitMiddleware, concurrency=settings.key_concurrency, rate=settings.key_rate),
        Middleware(UploadLimitMiddleware, max_uploads=settings.max_uploads, timeout=settings.receive_timeout),
    ]
