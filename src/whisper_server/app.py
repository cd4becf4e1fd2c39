"""The application: what there is, which route leads where. Builds everything and holds nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from whisper_server.api.failures import HANDLERS
from whisper_server.api.recognise import recognise
from whisper_server.api.reload import reload
from whisper_server.engine import Engine
from whisper_server.inference.audio import AudioDecoder
from whisper_server.inference.catalogue import PACKAGES
from whisper_server.inference.devices import Device, available_cpus
from whisper_server.inference.models import ModelLoader, ModelManager
from whisper_server.inference.packages import PackagedModels
from whisper_server.inference.resolver import ModelResolver
from whisper_server.settings import Settings, cache_dir

_WEB = Path(__file__).parent / "web"


async def page(request: Request) -> Response:
    return FileResponse(_WEB / "index.html", headers={"content-security-policy": "default-src 'self'"})


ROUTES = [
    Route("/", page),
    Route("/recognise", recognise, methods=["POST"]),
    Route("/reload", reload, methods=["POST"]),
    Mount("/web", StaticFiles(directory=_WEB)),
]


def build_engine(settings: Settings) -> Engine:
    """Load the model and return the engine that serves it; blocks for as long as that takes."""
    device = Device.choose(settings.device)
    resolver = ModelResolver(
        models_dir=settings.models_dir,
        packages=PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages"),
        offline=settings.offline,
    )
    loader = ModelLoader(
        device=device,
        compute_type=device.compute_type(settings.compute_type),
        cpu_threads=settings.cpu_threads or available_cpus(),
    )
    models = ModelManager(resolver, loader)
    models.load(settings.model)
    return Engine(models, AudioDecoder(max_seconds=settings.max_audio_seconds))


def create_app(settings: Settings, engine: Engine | None = None) -> Starlette:
    """Return the ASGI application; without an engine it builds its own when it starts."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        serving = engine or await to_thread.run_sync(build_engine, settings)
        yield {"engine": serving, "settings": settings}

    return Starlette(routes=ROUTES, exception_handlers=HANDLERS, lifespan=lifespan)
