"""Gives the errors of Ray Serve's own proxies the shape that clients of this server expect.

Set RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=whisper_server.cluster.proxy:middlewares in the environment of Ray itself.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_server.api.errors import failure_response, route_path
from whisper_server.core.errors import Overloaded, ServerStopping, WhisperServerError

_RETRY_AFTER = 5
_RAY_PATHS = ("/-/",)
# Ray Serve's proxy adds it to every response, and a response from a replica already has it.
_REQUEST_ID = "x-request-id"


def middlewares() -> list[Middleware]:
    return [Middleware(ErrorShapeMiddleware)]


class ErrorShapeMiddleware:
    """Replaces the proxy's refusals, and the missing response of a replica that died."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_RAY_PATHS):
            return await self._app(scope, receive, send)
        response = _ResponseFilter(send)
        await self._app(scope, receive, response.send)
        if not response.started:
            lost = ServerStopping("the replica that worked on this has ended")
            error = failure_response(route_path(scope), response.refusal or lost)
            error.headers[_REQUEST_ID] = Headers(scope=scope).get(_REQUEST_ID, "")
            await error(scope, receive, send)


class _ResponseFilter:
    """Passes on what a replica sends and holds back the proxy's own refusals."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.refusal: WhisperServerError | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            request_ids = headers.getlist(_REQUEST_ID)
            if len(request_ids) < 2 and message["status"] in (408, 503):
                self.refusal = Overloaded("all replicas are busy", _RETRY_AFTER)
            else:
                headers[_REQUEST_ID] = request_ids[0]
        if self.refusal is None:
            self.started = True
            await self._send(message)
