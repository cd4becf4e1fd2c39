"""Builds what the application consists of from the settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from whisper_server.api.deepgram import callback as deepgram
from whisper_server.api.metrics import Metrics
from whisper_server.core import logs
from whisper_server.core.api_keys import Keyring
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import Settings, cache_dir
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import Transcriber
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
from whisper_server.jobs.job import Limits
from whisper_server.jobs.service import Jobs
from whisper_server.jobs.storage.audio_storage import AudioStorage
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.local_storage import DATABASE, LocalStorage
from whisper_server.jobs.storage.object_storage import ObjectStorage
from whisper_server.jobs.url_fetcher import Fetcher
from whisper_server.jobs.webhooks import Webhooks
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger(__name__)


def settings_from_environment(environ: Mapping[str, str]) -> Settings:
    """Return the settings of WHISPER_SERVER_* variables, and configure logging; raises SettingsError.

    Another process chooses the address to listen on, so a key is required for every address.
    """
    settings = Settings.load([], environ)
    if not Keyring.load(settings) and settings.auth:
        raise SettingsError(
            "there is no key: set WHISPER_SERVER_API_KEY_FILE or WHISPER_SERVER_API_KEY, "
            "or WHISPER_SERVER_AUTH=false if everybody who reaches this server may use it"
        )
    if settings.wyoming:
        raise SettingsError(
            "WHISPER_SERVER_WYOMING needs the command whisper-server; other servers listen for HTTP only"
        )
    logs.configure(settings.log_level, settings.log_format, quiet=logs.LIBRARIES)
    return settings


def load_models(settings: Settings) -> ModelManager:
    """Load the model that the settings name and transcribe a second of silence with it; blocks meanwhile."""
    device = Device.choose(settings.device)
    if device.kind == "cpu":
        keep_freed_memory()
    elif problem := load_cublas():
        logger.warning("%s", problem)
    types = device.compute_types(settings.compute_type)
    tuner = Tuner(
        device,
        types[0],
        WorkerConfig(settings.workers, settings.cpu_threads, settings.max_batch_size),
        cache=cache_dir() / "workers.json",
        measure=settings.autotune,
    )
    loader = ModelLoader(
        tuner,
        types=types,
        memory_limit=settings.memory_limit,
        fallback=Device("cpu") if device.kind != "cpu" and settings.cpu_fallback else None,
    )
    models = ModelManager(
        build_resolver(settings),
        loader,
        on_demand=settings.max_loaded_models if settings.on_demand_models else 0,
        idle_policy=IdlePolicy(idle_unload=settings.idle_unload, idle_release=settings.idle_release),
    )
    if settings.lazy_load:
        models.set_startup_model(settings.model)
    else:
        models.load(settings.model)
    return models


def build_resolver(settings: Settings) -> ModelResolver:
    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    return ModelResolver(models_dir=settings.models_dir, packages=packages, offline=settings.offline)


def build_transcriber(settings: Settings, models: ModelManager, metrics: Metrics) -> Transcriber:
    return Transcriber(
        models,
        AudioDecoder(max_seconds=settings.max_audio_seconds),
        Admission(max_requests=settings.max_requests, max_audio_seconds=settings.max_queued_audio_seconds),
        on_transcribed=metrics.transcribed,
    )


def build_session_limits(settings: Settings) -> SessionLimits:
    return SessionLimits(
        max_sessions=settings.max_sessions,
        max_sessions_per_key=settings.key_sessions,
        idle_timeout=settings.session_idle_timeout,
        max_seconds=settings.max_session_seconds,
    )


def build_database(settings: Settings) -> Database:
    """Return the database of jobs, which is opened later; raises SettingsError."""
    if settings.webhook_host and not settings.webhook_secret:
        raise SettingsError("--webhook-host needs --webhook-secret, which signs the webhooks")
    return Database(settings.database_url or f"sqlite:///{settings.data_dir / DATABASE}")


def build_storage(settings: Settings) -> AudioStorage:
    """Return the storage of the jobs' audio, which is opened later; raises SettingsError."""
    if settings.audio_storage:
        return ObjectStorage(settings.data_dir, settings.audio_storage)
    return LocalStorage(settings.data_dir)


def build_jobs(settings: Settings, transcriber: Transcriber, database: Database) -> Jobs:
    """Return the jobs, which are opened when they are served."""
    limits = Limits(
        concurrency=settings.job_concurrency,
        max_jobs=settings.max_jobs,
        max_jobs_of_key=settings.key_jobs,
        seconds_to_live=settings.job_ttl,
        result_cache=settings.result_cache,
    )
    return Jobs(
        transcriber,
        build_storage(settings),
        database,
        fetcher=Fetcher(max_bytes=settings.max_upload_bytes, timeout=settings.receive_timeout),
        webhooks=Webhooks(settings.webhook_host, settings.webhook_secret),
        limits=limits,
        enabled=settings.jobs,
        deliveries={deepgram.FORMAT: deepgram.delivery},
    )
