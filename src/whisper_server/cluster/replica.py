"""One replica: builds and runs the application, checks its health and drains it. Does not depend on Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from whisper_server.api.state import AppState
from whisper_server.app import create_app
from whisper_server.bootstrap import settings_from_environment
from whisper_server.cluster.agent import CoordinatorClient, ReplicaAgent
from whisper_server.core.errors import ModelUnavailable
from whisper_server.core.settings import PREFIX, SettingsError

logger = logging.getLogger(__name__)

# Ray Serve checks a running replica's health every few seconds; without checks, the replica may be stopping.
_HEALTH_CHECK_TIMEOUT = 10.0
_POLL_INTERVAL = 1.0
_SESSION_DRAIN_SECONDS = 10.0


class Replica:
    """`overrides` are settings, by their names in lower case, that take precedence over those of `environ`.

    `is_stopping` returns whether any replica of the deployment is stopping.
    """

    def __init__(
        self,
        id: str,
        coordinator: CoordinatorClient,
        *,
        environ: Mapping[str, str],
        overrides: Mapping[str, Any],
        secret: bytes,
        is_stopping: Callable[[], Awaitable[bool]],
        health_check_timeout: float = _HEALTH_CHECK_TIMEOUT,
    ) -> None:
        self._agent = ReplicaAgent(id, coordinator)
        self._environ = environ
        self._overrides = overrides
        self._secret = secret
        self._is_stopping = is_stopping
        self._health_check_timeout = health_check_timeout
        self._last_health_check = time.monotonic()
        self._config: Mapping[str, Any] = {}
        self._lifespan: _Lifespan | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Start with these settings over all others; later calls can only change the model.

        Raises SettingsError, or an error of loading the model.
        """
        previous, self._config = self._config, dict(config)
        if self._lifespan is None:
            await self._start()
        elif _without_model(previous) != _without_model(config):
            raise SettingsError("only the model of a running replica can be changed by user_config")
        elif config.get("model", "") not in ("", previous.get("model", "")):
            await self._state.models.reload(str(config["model"]))

    async def _start(self) -> None:
        values = {**self._overrides, **self._config}
        environ = {**self._environ, **{f"{PREFIX}{name.upper()}": _text(value) for name, value in values.items()}}
        settings = settings_from_environment(environ)
        if model := await self._agent.target_model():
            settings = replace(settings, model=model)
        lifespan = _Lifespan(create_app(settings, before=self._agent.routes, secret=self._secret))
        await lifespan.start()
        self._lifespan = lifespan
        self._tasks = [
            asyncio.create_task(self._agent.run(self._state.models, self._state.metrics)),
            asyncio.create_task(self._drain_when_stopping()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a WebSocket."""
        assert self._lifespan is not None
        scope["state"] = {**scope.get("state", {}), **self._lifespan.state}
        await self._lifespan.app(scope, receive, send)

    @property
    def _state(self) -> AppState:
        assert self._lifespan is not None
        return AppState(self._lifespan.state)

    def check_health(self) -> None:
        """Raises ModelUnavailable if a worker of the model has crashed."""
        self._last_health_check = time.monotonic()
        if self._lifespan is not None and not self._state.models.ready:
            raise ModelUnavailable("a worker of the model has crashed")

    def audio_seconds(self) -> float:
        """Return the seconds of audio in unfinished requests."""
        return self._state.transcriber.admission.audio_seconds if self._lifespan is not None else 0.0

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._agent.leave()
        if self._lifespan is not None:
            await self._lifespan.stop()

    async def _drain_when_stopping(self) -> None:
        """Ray Serve does not notify a replica that it is stopping: health checks cease, and `is_stopping` is true."""
        while True:
            unchecked = time.monotonic() - self._last_health_check
            if unchecked > self._health_check_timeout and await self._is_stopping():
                return await self.drain()
            await asyncio.sleep(_POLL_INTERVAL)

    async def drain(self) -> None:
        """End live sessions and event streams, which last as long as their clients like."""
        logger.info("this replica is stopping: live sessions and event streams end, and clients can reconnect")
        self._state.jobs.end_events()
        await self._state.sessions.drain(_SESSION_DRAIN_SECONDS)


class _Lifespan:
    """Runs an application's lifespan in one task, as task groups have to end in the task in which they began."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Raises whatever keeps the application from starting."""
        started = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(started))
        await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task

    async def _run(self, started: asyncio.Future[None]) -> None:
        async with self.app.router.lifespan_context(self.app) as state:
            self.state = dict(state or {})
            started.set_result(None)
            await self._stopping.wait()

    async def stop(self) -> None:
        self._stopping.set()
        await self._task


def _without_model(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "model"}


def _text(value: Any) -> str:
    """The value as an environment variable has it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
