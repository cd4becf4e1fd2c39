"""The application: what there is, which route leads where. Builds everything and holds nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any

from anyio import create_task_group, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from whisper_server.api.exception_handlers import HANDLERS
from whisper_server.api.metrics import Metrics, metrics
from whisper_server.api.middleware.authentication import AuthenticationMiddleware
from whisper_server.api.middleware.origin_check import OriginCheckMiddleware, cross_origin
from whisper_server.api.middleware.rate_limits import RateLimitMiddleware
from whisper_server.api.middleware.request_log import RequestLogMiddleware
from whisper_server.api.middleware.trusted_hosts import TrustedHostsMiddleware
from whisper_server.api.middleware.upload_limits import UploadLimitMiddleware
from whisper_server.api.openapi.document import openapi
from whisper_server.api.routes.jobs import (
    cancel_job,
    delete_job,
    job_audio,
    job_events,
    job_result,
    list_jobs,
    show_job,
    submit_job,
)
from whisper_server.api.routes.listen import listen
from whisper_server.api.routes.models import delete_model, list_models, show_model
from whisper_server.api.routes.page import Assets, docs, page, server_facts
from whisper_server.api.routes.realtime import client_secrets, realtime, transcription_sessions
from whisper_server.api.routes.recognise import recognise
from whisper_server.api.routes.reload import reload
from whisper_server.api.routes.single_flight import SingleFlight
from whisper_server.api.routes.stream import stream, stream_socket
from whisper_server.api.routes.system import health, ready
from whisper_server.api.routes.transcriptions import transcriptions, translations
from whisper_server.api.routes.unload import unload
from whisper_server.core import logs
from whisper_server.core.api_keys import Keyring
from whisper_server.core.client_secrets import ClientSecrets
from whisper_server.core.settings import Settings, SettingsError, cache_dir
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import Engine
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.cublas import load_cublas
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.malloc import keep_freed_memory
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.idle_policy import IdlePolicy
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver
from whisper_server.jobs.service import Jobs, Limits
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.local_storage import DATABASE, LocalStorage
from whisper_server.jobs.storage.object_storage import ObjectStorage
from whisper_server.jobs.url_fetcher import Fetcher
from whisper_server.jobs.webhooks import Webhooks
from whisper_server.live.session import SessionFactory
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger(__name__)

JOBS = [
    route
    for path in ("/v1/jobs", "/jobs")
    for route in (
        Route(path, submit_job, methods=["POST"]),
        Route(path, list_jobs),
        Route(f"{path}/{{id}}", show_job),
        Route(f"{path}/{{id}}", delete_job, methods=["DELETE"]),
        Route(f"{path}/{{id}}/result", job_result),
        Route(f"{path}/{{id}}/audio", job_audio),
        Route(f"{path}/{{id}}/events", job_events),
        Route(f"{path}/{{id}}/cancel", cancel_job, methods=["POST"]),
    )
]

ROUTES = [
    Route("/", page),
    Route("/recognise", recognise, methods=["POST"]),
    Route("/reload", reload, methods=["POST"]),
    Route("/unload", unload, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
    Route("/v1/audio/translations", translations, methods=["POST"]),
    *JOBS,
    Route("/v1/stream", stream, methods=["POST", "PUT"]),
    WebSocketRoute("/v1/stream", stream_socket),
    WebSocketRoute("/v1/listen", listen),
    WebSocketRoute("/v1/realtime", realtime),
    Route("/v1/realtime/client_secrets", client_secrets, methods=["POST"]),
    Route("/v1/realtime/transcription_sessions", transcription_sessions, methods=["POST"]),
    Route("/v1/models", list_models),
    Route("/v1/models/{id:path}", show_model),
    Route("/v1/models/{id:path}", delete_model, methods=["DELETE"]),
    Route("/health", health),
    Route("/ready", ready),
    Route("/metrics", metrics),
    Route("/openapi.json", openapi),
    Route("/docs", docs),
    Route("/web/server.json", server_facts),
    Mount("/web", Assets()),
]


def load_models(settings: Settings) -> ModelManager:
    """Load and try the model that the settings name; blocks for as long as that takes."""
    device = Device.choose(settings.device)
    if device.kind == "cpu":
        keep_freed_memory()
    elif problem := load_cublas():
        logger.warning("%s", problem)
    resolver = ModelResolver(
        models_dir=settings.models_dir,
        packages=PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages"),
        offline=settings.offline,
    )
    types = device.compute_types(settings.compute_type)
    tuner = Tuner(
        device,
        types[0],
        WorkerConfig(settings.workers, settings.cpu_threads, settings.max_batch_size),
        cache=cache_dir() / "workers.json",
        measure=settings.measure,
    )
    on_demand = settings.max_loaded_models if settings.on_demand_models else 0
    loader = ModelLoader(
        tuner,
        types=types,
        memory_limit=settings.memory_limit,
        fallback=Device("cpu") if device.kind != "cpu" and settings.cpu_fallback else None,
    )
    idle_policy = IdlePolicy(idle_unload=settings.idle_unload, idle_release=settings.idle_release)
    models = ModelManager(resolver, loader, on_demand=on_demand, idle_policy=idle_policy)
    if settings.lazy_load:
        models.expect(settings.model)
    else:
        models.load(settings.model)
    return models


def create_app(
    settings: Settings | None = None,
    models: ModelManager | None = None,
    *,
    before: Sequence[BaseRoute] = (),
    secret: bytes | None = None,
) -> Starlette:
    """Return the ASGI application; without models it loads them when it starts. Raises SettingsError.

    Without settings it takes the environment's, for whoever has a process manager of their own. The routes `before`
    come first. Servers with one `secret` know each other's short-lived keys.
    """
    settings = settings or environments_settings(os.environ)
    gathered = Metrics()
    database = _jobs_database(settings)
    client_secrets_ = ClientSecrets(secret or token_bytes(32))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        loaded = await to_thread.run_sync(load_models, settings) if models is None else models
        engine = Engine(
            loaded,
            AudioDecoder(max_seconds=settings.max_audio_seconds),
            Admission(max_requests=settings.max_requests, max_audio_seconds=settings.max_waiting_seconds),
            transcribed=gathered.transcribed,
        )
        jobs = _jobs(settings, engine, database)
        sessions = SessionLimits(
            max_sessions=settings.max_sessions,
            max_sessions_per_key=settings.key_sessions,
            idle_timeout=settings.session_idle_timeout,
            max_seconds=settings.max_session_seconds,
        )
        with gathered.watching(engine, jobs, sessions):
            async with create_task_group() as group, jobs.serving():
                yield {
                    "engine": engine,
                    "jobs": jobs,
                    "listener": SessionFactory(engine),
                    "sessions": sessions,
                    "passes": client_secrets_,
                    "settings": settings,
                    "metrics": gathered,
                    "retries": SingleFlight(group),
                }
                group.cancel_scope.cancel()
        if models is None:
            loaded.close()

    return Starlette(
        routes=[*before, *ROUTES],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
        middleware=_middleware(settings, gathered, client_secrets_),
    )


def _jobs_database(settings: Settings) -> Database:
    """Nothing is opened yet; raises SettingsError."""
    if settings.callback_host and not settings.callback_secret:
        raise SettingsError("--callback-host needs --callback-secret, which signs what the hosts are told")
    return Database(settings.database_url or f"sqlite:///{settings.data_dir / DATABASE}")


def _jobs(settings: Settings, engine: Engine, database: Database) -> Jobs:
    limits = Limits(
        concurrency=settings.job_concurrency,
        max_jobs=settings.max_jobs,
        max_jobs_of_key=settings.key_jobs,
        seconds_to_live=settings.job_ttl,
        result_cache=settings.result_cache,
    )
    return Jobs(
        engine,
        ObjectStorage(settings.data_dir, settings.audio_storage)
        if settings.audio_storage
        else LocalStorage(settings.data_dir),
        database,
        fetcher=Fetcher(max_bytes=settings.max_upload_bytes, timeout=settings.receive_timeout),
        webhooks=Webhooks(settings.callback_host, settings.callback_secret),
        limits=limits,
        enabled=settings.jobs,
    )


def environments_settings(environ: Mapping[str, str]) -> Settings:
    """Somebody else picks the address to listen on, so a key is needed wherever that is. Raises SettingsError."""
    settings = Settings.load([], environ)
    if not Keyring.load(settings) and settings.auth:
        raise SettingsError(
            "there is no key: set WHISPER_SERVER_API_KEY_FILE or WHISPER_SERVER_API_KEY, "
            "or WHISPER_SERVER_AUTH=false if everybody who reaches this server may come in"
        )
    logs.configure(settings.log_level, settings.log_format, quiet=logs.LIBRARIES)
    return settings


def _middleware(settings: Settings, gathered: Metrics, client_secrets_: ClientSecrets) -> list[Middleware]:
    """From the outermost, which sees what the client gets, to the innermost."""
    return [
        Middleware(RequestLogMiddleware, metrics=gathered),
        Middleware(TrustedHostsMiddleware, names=(settings.host, *settings.allow_host)),
        *cross_origin(settings.allow_origin),
        Middleware(OriginCheckMiddleware, allowed=settings.allow_origin),
        Middleware(AuthenticationMiddleware, keyring=Keyring.load(settings), client_secrets_=client_secrets_),
        Middleware(RateLimitMiddleware, concurrency=settings.key_concurrency, rate=settings.key_rate),
        Middleware(UploadLimitMiddleware, most=settings.max_uploads, timeout=settings.receive_timeout),
    ]
