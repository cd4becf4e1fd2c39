"""`GET /v1/models`, and `GET` and `DELETE /v1/models/{id}`: what is loaded. An id may have a slash, encoded or not."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.engine.transcriber import Engine, LoadedModel


async def list_models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": described(request.state.engine)})


async def show_model(request: Request) -> Response:
    engine: Engine = request.state.engine
    name = request.path_params["id"]
    if not engine.models and name == engine.name:
        return JSONResponse(_absent(engine))
    return JSONResponse(_described(engine.model(name)))


async def delete_model(request: Request) -> Response:
    engine: Engine = request.state.engine
    id = await engine.unload(request.path_params["id"])
    return JSONResponse({"id": id, "object": "model", "deleted": True})


def described(engine: Engine) -> list[dict[str, Any]]:
    """Return the models that are loaded, or the one that is to come."""
    return [_described(model) for model in engine.models] or [_absent(engine)]


def _described(model: LoadedModel) -> dict[str, Any]:
    now = {"created": model.loaded_at, "owned_by": "whisper-server", "state": model.weights.state}
    return {"id": model.id, "object": "model", **now, "memory": _memory(model)}


def _memory(model: LoadedModel) -> dict[str, Any]:
    """Where it runs now, what the plan for it was, in bytes, and what it gave up since."""
    backoff, placement = model.batched.backoff, model.weights.placement
    return {
        "device": str(placement.device),
        "compute_type": placement.compute_type,
        "max_batch_size": backoff.max_batch_size,
        "planned_compute_type": model.plan.compute_type,
        "planned_max_batch_size": model.plan.batch,
        "planned_bytes": model.plan.needed,
        "free_bytes": model.plan.free,
        "steps": dict(backoff.steps),
    }


def _absent(engine: Engine) -> dict[str, Any]:
    """The model that comes with the first request."""
    state = "loading" if engine.loading else "released"
    return {"id": engine.name, "object": "model", "created": 0, "owned_by": "whisper-server", "state": state}
