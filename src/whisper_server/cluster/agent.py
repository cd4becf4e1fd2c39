"""Connects one replica to the others: reports to the coordinator, executes its commands, answers for all replicas.

Does not depend on Ray.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from anyio import create_task_group, sleep
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from whisper_server.api.metrics import Metrics
from whisper_server.api.routes.models import list_models, lists_available, model_json, requested_model, show_model
from whisper_server.api.routes.system import readiness
from whisper_server.api.state import ServerRequest
from whisper_server.cluster.coordinator import Failure, ReloadCommand, ReloadResult, ReplicaState
from whisper_server.cluster.merge_metrics import merge_metrics
from whisper_server.core.errors import WhisperServerError
from whisper_server.engine.model_admin import ModelAdmin

logger = logging.getLogger(__name__)

_RETRY_DELAY = 1.0
_HEARTBEAT_INTERVAL = 3.0
_UNREACHABLE = Failure(503, "the replicas cannot be reached now; try again later", "overloaded")


class CoordinatorClient(Protocol):
    """Access to the coordinator from any process. Its methods raise OSError while the coordinator is unreachable."""

    async def target_model(self) -> str: ...

    async def replicas(self) -> dict[str, ReplicaState]: ...

    async def report(
        self, id: str, state: ReplicaState, result: ReloadResult | None = None
    ) -> ReloadCommand | None: ...

    async def leave(self, id: str) -> None: ...

    async def reload(self, model: str) -> ReloadResult: ...


class ReplicaError(WhisperServerError):
    """An error of another replica, with the status, code and parameter that it had there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = failure.status
        self.code = failure.code
        self.param = failure.param
        self.headers = {"retry-after": "5"} if failure.status == 503 else {}


class ReplicaAgent:
    """Its `routes` replace the application's routes of the same paths, to answer for all replicas."""

    def __init__(self, id: str, coordinator: CoordinatorClient) -> None:
        self.id = id
        self._coordinator = coordinator
        self._target_model = ""
        self.routes: Sequence[Route] = (
            Route("/reload", self.reload, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{id:path}", self.show_model),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        )

    async def target_model(self) -> str:
        """Return the model that all replicas were last commanded to serve, or an empty string."""
        try:
            self._target_model = await self._coordinator.target_model()
        except OSError as exc:
            logger.warning("the coordinator is unreachable, so the configured model is loaded: %s", exc)
        return self._target_model

    async def run(self, models: ModelAdmin, metrics: Metrics) -> None:
        """Report and execute commands until cancelled."""
        while True:
            command = await self._report(models, metrics)
            if command is not None:
                await self._execute(command, models, metrics)

    async def _report(
        self, models: ModelAdmin, metrics: Metrics, result: ReloadResult | None = None
    ) -> ReloadCommand | None:
        try:
            return await self._coordinator.report(self.id, self._state(models, metrics), result)
        except OSError as exc:
            logger.warning("the coordinator is unreachable: %s", exc)
            await sleep(_RETRY_DELAY)
            return None

    async def _execute(self, command: ReloadCommand, models: ModelAdmin, metrics: Metrics) -> None:
        """Loading may take longer than the heartbeat timeout, so heartbeats continue meanwhile."""
        async with create_task_group() as group:
            group.start_soon(self._send_heartbeats, models, metrics)
            result = await self._reload(command, models)
            group.cancel_scope.cancel()
        await self._report(models, metrics, result)

    async def _send_heartbeats(self, models: ModelAdmin, metrics: Metrics) -> None:
        while True:
            await sleep(_HEARTBEAT_INTERVAL)
            await self._report(models, metrics)

    async def _reload(self, command: ReloadCommand, models: ModelAdmin) -> ReloadResult:
        try:
            model = await models.reload(command.model)
        except WhisperServerError as exc:
            logger.error("%s was not loaded: %s", command.model, exc)
            return ReloadResult(command.number, failure=Failure(exc.status, str(exc), exc.code, exc.param))
        except Exception:  # the coordinator waits for a result
            logger.exception("%s was not loaded", command.model)
            return ReloadResult(command.number, failure=Failure(500, "internal server error"))
        self._target_model = command.model
        return ReloadResult(command.number, model.id)

    def _state(self, models: ModelAdmin, metrics: Metrics) -> ReplicaState:
        return ReplicaState(
            models.name,
            readiness(models),
            [model_json(model) for model in models.list()],
            metrics.text().decode(),
            self._target_model,
        )

    async def leave(self) -> None:
        try:
            await self._coordinator.leave(self.id)
        except OSError as exc:
            logger.info("the coordinator was not notified that this replica stops: %s", exc)

    # Endpoints

    async def reload(self, request: ServerRequest) -> Response:
        model = await requested_model(request)
        try:
            result = await self._coordinator.reload(model)
        except OSError as exc:
            raise ReplicaError(_UNREACHABLE) from exc
        if result.failure is not None:
            raise ReplicaError(result.failure)
        return JSONResponse({"message": f"Model {result.model} loaded"})

    async def list_models(self, request: ServerRequest) -> Response:
        if lists_available(request):
            return await list_models(request)
        return JSONResponse({"object": "list", "data": _models((await self._states(request)).values())})

    async def show_model(self, request: ServerRequest) -> Response:
        """Return the model as it is on this replica, or else as another replica describes it."""
        name = request.path_params["id"]
        state = request.state
        if state.transcriber.serves(name) and not state.models.is_loaded(name):
            for model in _models((await self._states(request)).values()):
                if model["id"] == name:
                    return JSONResponse(model)
        return await show_model(request)

    async def ready(self, request: ServerRequest) -> Response:
        states = await self._states(request)
        replicas = [{"replica": id, "model": state.model, **state.ready} for id, state in states.items()]
        serving = [replica for replica in replicas if replica["status"] == "ready"]
        overall = {name: value for name, value in (serving or replicas)[0].items() if name not in ("replica", "model")}
        return JSONResponse({**overall, "replicas": replicas}, 200 if serving else 503)

    async def metrics(self, request: ServerRequest) -> Response:
        states = await self._states(request)
        text = merge_metrics({id: state.metrics for id, state in states.items()})
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def _states(self, request: ServerRequest) -> dict[str, ReplicaState]:
        """The current state of this replica and the last reports of the others, if the coordinator is reachable."""
        own = {self.id: self._state(request.state.models, request.state.metrics)}
        try:
            return {**(await self._coordinator.replicas()), **own}
        except OSError as exc:
            logger.warning("the coordinator is unreachable, so the response covers this replica only: %s", exc)
            return own


def _models(states: Iterable[ReplicaState]) -> list[Mapping[str, Any]]:
    """Each model once, as the first replica describes it, with the number of replicas that have it."""
    models: dict[str, dict[str, Any]] = {}
    for state in states:
        for model in state.models:
            models.setdefault(model["id"], {**model, "replicas": 0})["replicas"] += 1
    return list(models.values())
