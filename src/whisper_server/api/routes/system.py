"""`GET /health`: the process lives. `GET /ready`: the model serves, or comes with a request; and what is loading."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server.engine.transcriber import Engine


async def health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    engine: Engine = request.state.engine
    return JSONResponse(readiness(engine), 200 if engine.ready else 503)


def readiness(engine: Engine) -> dict[str, str]:
    if engine.ready:
        return {"status": "ready", **({"loading": engine.loading} if engine.loading else {})}
    return {"status": "not ready", "error": "a worker of the model has crashed"}
