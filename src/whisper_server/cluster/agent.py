"""One replica among others: it tells the board what it is, does what that says, and answers for all of them.

Knows nothing of Ray.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from anyio import create_task_group, sleep
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from whisper_server.api.metrics import Metrics
from whisper_server.api.requests.body import read_body
from whisper_server.api.routes.models import described, show_model
from whisper_server.api.routes.reload import DEFAULT_MODEL, MAX_BODY_BYTES, model_name
from whisper_server.api.routes.system import readiness
from whisper_server.cluster.coordinator import Failure, Outcome, ReloadCommand, State
from whisper_server.cluster.merge_metrics import CONTENT_TYPE, together
from whisper_server.core.errors import WhisperServerError
from whisper_server.engine.transcriber import Engine

logger = logging.getLogger(__name__)

_PAUSE = 1.0
_REPORTS_EVERY = 3.0


class CoordinatorClient(Protocol):
    """A board, wherever it is. Its methods raise OSError while it cannot be reached."""

    async def wanted(self) -> str: ...

    async def replicas(self) -> dict[str, State]: ...

    async def report(self, id: str, state: State, outcome: Outcome | None = None) -> ReloadCommand | None: ...

    async def leave(self, id: str) -> None: ...

    async def reload(self, model: str) -> Outcome: ...


class ReplicaFailed(WhisperServerError):
    """What went wrong on another replica, as that would have said it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = failure.status
        self.code = failure.code
        self.param = failure.param

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": "5"} if self.status == 503 else {}


class CoordinatorUnreachable(ReplicaFailed):
    def __init__(self) -> None:
        super().__init__(Failure(503, "the replicas cannot be reached now; try again later", "overloaded"))


class ReplicaAgent:
    """Its `routes` come before the application's own; `engine` and `metrics` are that one's once it runs."""

    def __init__(self, id: str, coordinator: CoordinatorClient) -> None:
        self.id = id
        self._coordinator = coordinator
        self._wanted = ""
        self.routes: Sequence[Route] = (
            Route("/reload", self.reload, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{id:path}", self.show_model),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        )

    async def wanted(self) -> str:
        """Return the model that the deployment was told to serve, or nothing."""
        try:
            self._wanted = await self._coordinator.wanted()
        except OSError as exc:
            logger.warning("which model is wanted cannot be asked: %s", exc)
        return self._wanted

    async def take_part(self, engine: Engine, metrics: Metrics) -> None:
        """Report for ever, and do what is ordered meanwhile."""
        while True:
            try:
                command = await self._coordinator.report(self.id, self._state(engine, metrics))
                if command is not None:
                    await self._carry_out(command, engine, metrics)
            except OSError as exc:
                logger.warning("the other replicas cannot be told: %s", exc)
                await sleep(_PAUSE)

    async def _carry_out(self, command: ReloadCommand, engine: Engine, metrics: Metrics) -> None:
        """Others have to hear meanwhile that this one is there."""
        async with create_task_group() as group:
            group.start_soon(self._keep_reporting, engine, metrics)
            outcome = await self._reloaded(command, engine)
            group.cancel_scope.cancel()
        await self._coordinator.report(self.id, self._state(engine, metrics), outcome)

    async def _keep_reporting(self, engine: Engine, metrics: Metrics) -> None:
        while True:
            await sleep(_REPORTS_EVERY)
            try:
                await self._coordinator.report(self.id, self._state(engine, metrics))
            except OSError as exc:
                logger.warning("the other replicas cannot be told: %s", exc)

    async def _reloaded(self, command: ReloadCommand, engine: Engine) -> Outcome:
        try:
            model = await engine.reload(command.model)
        except WhisperServerError as exc:
            logger.error("%s was not loaded: %s", command.model, exc)
            return Outcome(command.number, failure=Failure(exc.status, str(exc), exc.code, exc.param))
        except Exception:  # the one who ordered it waits for an answer
            logger.exception("%s was not loaded", command.model)
            return Outcome(command.number, failure=Failure(500, "internal server error"))
        self._wanted = command.model
        return Outcome(command.number, model.name)

    def _state(self, engine: Engine, metrics: Metrics) -> State:
        return State(engine.name, readiness(engine), described(engine), metrics.text().decode(), self._wanted)

    async def leave(self) -> None:
        try:
            await self._coordinator.leave(self.id)
        except OSError as exc:
            logger.info("the other replicas were not told of the end: %s", exc)

    # What clients ask for.

    async def reload(self, request: Request) -> Response:
        model = model_name(await read_body(request, max_bytes=MAX_BODY_BYTES), default=DEFAULT_MODEL)
        try:
            outcome = await self._coordinator.reload(model)
        except OSError as exc:
            raise CoordinatorUnreachable from exc
        if outcome.failure is not None:
            raise ReplicaFailed(outcome.failure)
        return JSONResponse({"message": f"Model {outcome.model} loaded"})

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": _models((await self._all(request)).values())})

    async def show_model(self, request: Request) -> Response:
        """As it is here, or else on another replica."""
        name = request.path_params["id"]
        engine: Engine = request.state.engine
        if engine.serves(name) and not any(model.matches(name) for model in engine.models):
            found = [model for model in _models((await self._all(request)).values()) if model["id"] == name]
            if found:
                return JSONResponse(found[0])
        return await show_model(request)

    async def ready(self, request: Request) -> Response:
        states = await self._all(request)
        replicas = [{"replica": id, "model": state.model, **state.ready} for id, state in states.items()]
        serving = [replica for replica in replicas if replica["status"] == "ready"]
        best = dict((serving or replicas)[0])
        for own in ("replica", "model"):
            del best[own]
        return JSONResponse({**best, "replicas": replicas}, 200 if serving else 503)

    async def metrics(self, request: Request) -> Response:
        states = await self._all(request)
        text = together({id: state.metrics for id, state in states.items()})
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def _all(self, request: Request) -> dict[str, State]:
        """This replica as it is, the others as they last said; only this one if the board cannot be asked."""
        own = {self.id: self._state(request.state.engine, request.state.metrics)}
        try:
            return {**(await self._coordinator.replicas()), **own}
        except OSError as exc:
            logger.warning("the other replicas cannot be asked: %s", exc)
            return own


def _models(states: Any) -> list[Mapping[str, Any]]:
    """Each model once, as the first replica that has it describes it, and how many have it."""
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        for model in state.models:
            kept = found.setdefault(model["id"], {**model, "replicas": 0})
            kept["replicas"] += 1
    return list(found.values())
