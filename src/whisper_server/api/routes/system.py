"""`GET /health`: the process runs. `GET /ready`: requests are served. `GET /metrics`: figures for Prometheus."""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from whisper_server.api.state import ServerRequest
from whisper_server.engine.model_admin import ModelAdmin


async def health(request: ServerRequest) -> Response:
    return JSONResponse({"status": "ok"})


async def ready(request: ServerRequest) -> Response:
    """Jobs that cannot be stored change the body only, as everything else is served.

    No key is needed, so the body does not have the details, which may name paths.
    """
    models, problem = request.state.models, request.state.jobs.problem
    jobs = {"jobs": type(problem).message} if problem is not None else {}
    return JSONResponse({**readiness(models), **jobs}, 200 if models.ready else 503)


async def metrics(request: ServerRequest) -> Response:
    return Response(request.state.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


def readiness(models: ModelAdmin) -> dict[str, str]:
    if models.ready:
        return {"status": "ready", **({"loading": models.loading} if models.loading else {})}
    return {"status": "not ready", "error": "a worker of the model has crashed"}
