"""What is Ray Serve's: two deployments, the replicas and the board between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from secrets import token_bytes
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.cluster.coordinator import Coordinator, Outcome, ReloadCommand, State
from whisper_server.cluster.replica import Replica
from whisper_server.cluster.scaling import AUDIO

_SECONDS_FOR_THE_BOARD = 10.0
_NO_LIMIT = 1_000_000


def application(given: Mapping[str, Any]) -> Application:
    """Return both, bound to each other; `given` are settings over the environment's."""
    coordinator = serve.deployment(
        Coordinator,
        name="board",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_NO_LIMIT,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=1,
        logging_config={"enable_access_log": False},
    )
    whisper = serve.deployment(
        serve.ingress(_front)(WhisperServer),
        name="whisper",
        user_config={},
        # A replica says no by itself, as a server does, before Serve does.
        max_ongoing_requests=128,
        max_queued_requests=64,
        backpressure_config={"status_code": 503, "retry_after_s": 5},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=60,
        graceful_shutdown_wait_loop_s=1,
        logging_config={"enable_access_log": False},
    )
    return whisper.bind(coordinator.bind(), dict(given), token_bytes(32))


class WhisperServer:
    """A replica, as Ray Serve asks it."""

    def __init__(self, coordinator: DeploymentHandle, given: Mapping[str, Any], secret: bytes) -> None:
        context = serve.get_replica_context()
        self._app = context.app_name
        self._deployment = context.deployment
        self.replica = Replica(
            context.replica_tag,
            RemoteCoordinator(coordinator),
            environ=os.environ,
            given=given,
            secret=secret,
            is_stopping=self._is_stopping,
        )

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Called at the start, too; the replica gets no requests until this returns."""
        await self.replica.configure(user_config)

    def check_health(self) -> None:
        self.replica.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {AUDIO: self.replica.audio_seconds()}

    async def __del__(self) -> None:
        await self.replica.stop()

    async def _is_stopping(self) -> bool:
        try:
            status = await asyncio.to_thread(serve.status)
        except (RayError, RayServeException):
            return False
        application = status.applications.get(self._app)
        deployment = application and application.deployments.get(self._deployment)
        return deployment is None or deployment.replica_states.get("STOPPING", 0) > 0


def _front() -> ASGIApp:
    return _to_the_replica


async def _to_the_replica(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    server: WhisperServer = serve.get_replica_context().servable_object
    await server.replica(scope, receive, send)


class RemoteCoordinator:
    """The board through its handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def wanted(self) -> str:
        model: str = await _answer(self._handle.wanted.remote())
        return model

    async def replicas(self) -> dict[str, State]:
        replicas: dict[str, State] = await _answer(self._handle.replicas.remote())
        return replicas

    async def report(self, id: str, state: State, outcome: Outcome | None = None) -> ReloadCommand | None:
        command: ReloadCommand | None = await _answer(self._handle.report.remote(id, state, outcome))
        return command

    async def leave(self, id: str) -> None:
        await _answer(self._handle.leave.remote(id))

    async def reload(self, model: str) -> Outcome:
        """As long as it takes."""
        outcome: Outcome = await _answer(self._handle.reload.remote(model), seconds=None)
        return outcome


async def _answer(response: Awaitable[Any], *, seconds: float | None = _SECONDS_FOR_THE_BOARD) -> Any:
    try:
        return await asyncio.wait_for(_awaited(response), seconds)
    except asyncio.TimeoutError as exc:
        raise OSError(f"no answer in {seconds} s") from exc
    except (RayError, RayServeException) as exc:
        raise OSError(str(exc).strip().splitlines()[-1]) from exc


async def _awaited(response: Awaitable[Any]) -> Any:
    return await response
