"""The two Ray Serve deployments: the replicas and their coordinator. The only module that imports Ray."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from secrets import token_bytes
from typing import Any, cast

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.cluster.coordinator import Coordinator, ReloadCommand, ReloadResult, ReplicaState
from whisper_server.cluster.replica import Replica
from whisper_server.cluster.scaling import AUDIO

_COORDINATOR_TIMEOUT = 10.0
_UNLIMITED = 1_000_000


def application(overrides: Mapping[str, Any]) -> Application:
    """Return the application; `overrides` are settings that take precedence over environment variables."""
    coordinator = serve.deployment(
        Coordinator,
        name="coordinator",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_UNLIMITED,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=1,
        logging_config={"enable_access_log": False},
    )
    whisper = serve.deployment(
        serve.ingress(_ingress)(WhisperServer),
        name="whisper",
        user_config={},
        # More than a replica admits, so that it refuses requests itself, with the errors of a single server.
        max_ongoing_requests=128,
        max_queued_requests=64,
        backpressure_config={"status_code": 503, "retry_after_s": 5},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=60,
        graceful_shutdown_wait_loop_s=1,
        logging_config={"enable_access_log": False},
    )
    return whisper.bind(coordinator.bind(), dict(overrides), token_bytes(32))


class WhisperServer:
    """A replica with the methods that Ray Serve calls."""

    def __init__(self, coordinator: DeploymentHandle, overrides: Mapping[str, Any], secret: bytes) -> None:
        context = serve.get_replica_context()
        self._app = context.app_name
        self._deployment = context.deployment
        self.replica = Replica(
            context.replica_tag,
            RemoteCoordinator(coordinator),
            environ=os.environ,
            overrides=overrides,
            secret=secret,
            is_stopping=self._is_stopping,
        )

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Also called at startup; the replica gets no requests until this returns."""
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


def _ingress() -> ASGIApp:
    return _call_replica


async def _call_replica(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    server: WhisperServer = serve.get_replica_context().servable_object
    await server.replica(scope, receive, send)


class RemoteCoordinator:
    """A CoordinatorClient that calls the coordinator's deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def target_model(self) -> str:
        return cast(str, await _response(self._handle.target_model.remote()))

    async def replicas(self) -> dict[str, ReplicaState]:
        return cast(dict[str, ReplicaState], await _response(self._handle.replicas.remote()))

    async def report(self, id: str, state: ReplicaState, result: ReloadResult | None = None) -> ReloadCommand | None:
        return cast(ReloadCommand | None, await _response(self._handle.report.remote(id, state, result)))

    async def leave(self, id: str) -> None:
        await _response(self._handle.leave.remote(id))

    async def reload(self, model: str) -> ReloadResult:
        """Without a time limit, as all replicas load one after the other."""
        return cast(ReloadResult, await _response(self._handle.reload.remote(model), timeout=None))


async def _response(response: Awaitable[Any], *, timeout: float | None = _COORDINATOR_TIMEOUT) -> Any:
    try:
        return await asyncio.wait_for(response, timeout)
    except asyncio.TimeoutError as exc:
        raise OSError(f"no response in {timeout} s") from exc
    except (RayError, RayServeException) as exc:
        raise OSError(str(exc).strip().splitlines()[-1]) from exc
