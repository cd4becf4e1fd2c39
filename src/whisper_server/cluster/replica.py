"""One replica: the application as everywhere, its start, its health and its end. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from whisper_server.api.metrics import Metrics
from whisper_server.app import create_app
from whisper_server.bootstrap import settings_from_environment
from whisper_server.cluster.agent import CoordinatorClient, ReplicaAgent
from whisper_server.core.errors import ModelUnavailable
from whisper_server.core.settings import PREFIX, SettingsError
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import Transcriber
from whisper_server.jobs.service import Jobs
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger(__name__)

# Whoever serves is asked for its health every few seconds; one that is not any more may be stopping.
_SILENCE = 10.0
_LOOKS_EVERY = 1.0
_LAST_WORDS = 10.0


class Replica:
    """`given` are settings over those of `environ`, as texts, by their names in lower case.

    `is_stopping` says whether some replica of the deployment ends now.
    """

    def __init__(
        self,
        id: str,
        coordinator: CoordinatorClient,
        *,
        environ: Mapping[str, str],
        given: Mapping[str, Any],
        secret: bytes,
        is_stopping: Callable[[], Awaitable[bool]],
        silence: float = _SILENCE,
    ) -> None:
        self._agent = ReplicaAgent(id, coordinator)
        self._environ = environ
        self._given = given
        self._secret = secret
        self._is_stopping = is_stopping
        self._silence = silence
        self._asked = time.monotonic()
        self._config: Mapping[str, Any] = {}
        self._life: _Life | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Start with these settings over all others, or change the model. Raises SettingsError, and what loading does.

        Anything but the model changes with a new replica only.
        """
        before, self._config = self._config, dict(config)
        if self._life is None:
            await self._start()
        elif _without_model(before) != _without_model(config):
            raise SettingsError("only the model of a running replica can be changed by user_config")
        elif config.get("model", "") not in ("", before.get("model", "")):
            await self._models.reload(str(config["model"]))

    async def _start(self) -> None:
        texts = {**self._given, **self._config}
        environ = {**self._environ, **{f"{PREFIX}{name.upper()}": _text(value) for name, value in texts.items()}}
        settings = settings_from_environment(environ)
        if wanted := await self._agent.wanted():
            settings = replace(settings, model=wanted)
        life = _Life(create_app(settings, before=self._agent.routes, secret=self._secret))
        await life.start()
        self._life = life
        metrics: Metrics = life.state["metrics"]
        self._tasks = [
            asyncio.create_task(self._agent.take_part(self._models, metrics)),
            asyncio.create_task(self._drain_in_time()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a WebSocket."""
        assert self._life is not None
        scope["state"] = {**scope.get("state", {}), **self._life.state}
        await self._life.app(scope, receive, send)

    @property
    def _models(self) -> ModelAdmin:
        assert self._life is not None
        models: ModelAdmin = self._life.state["models"]
        return models

    def check_health(self) -> None:
        """Raises ModelUnavailable."""
        self._asked = time.monotonic()
        if self._life is not None and not self._models.ready:
            raise ModelUnavailable("a worker of the model has crashed")

    def audio_seconds(self) -> float:
        if self._life is None:
            return 0.0
        transcriber: Transcriber = self._life.state["transcriber"]
        return transcriber.audio_seconds

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._agent.leave()
        if self._life is not None:
            await self._life.stop()

    async def _drain_in_time(self) -> None:
        """End what would last for as long as its client likes, before the time of a stopping replica is over."""
        while not (time.monotonic() - self._asked > self._silence and await self._is_stopping()):
            await asyncio.sleep(_LOOKS_EVERY)
        await self.drain()

    async def drain(self) -> None:
        assert self._life is not None
        logger.info("this replica stops: its live sessions end, and who follows a job comes back to another")
        jobs: Jobs = self._life.state["jobs"]
        jobs.end_events()
        sessions: SessionLimits = self._life.state["sessions"]
        await sessions.drain(_LAST_WORDS)


class _Life:
    """An application from its start to its end, in a task of its own: task groups want to end where they began."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._end = asyncio.Event()
        self._begun = asyncio.Event()

    async def start(self) -> None:
        """Raises whatever keeps the application from starting."""
        self._task = asyncio.create_task(self._live())
        begun = asyncio.create_task(self._begun.wait())
        await asyncio.wait({self._task, begun}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            begun.cancel()
            await self._task

    async def _live(self) -> None:
        async with self.app.router.lifespan_context(self.app) as state:
            self.state = dict(state or {})
            self._begun.set()
            await self._end.wait()

    async def stop(self) -> None:
        self._end.set()
        await self._task


def _without_model(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "model"}


def _text(value: Any) -> str:
    """As it would stand in a variable of the environment."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
