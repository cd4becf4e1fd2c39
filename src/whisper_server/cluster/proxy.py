"""What Ray Serve's proxies answer themselves, in the shapes that clients of this server know.

RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=whisper_server.cluster.proxy:middlewares, in the environment of Ray itself.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_server.api.errors import failure_response, route_path
from whisper_server.core.errors import Overloaded, TryAgainLater, WhisperServerError

_RETRY_AFTER = 5
_OWN_PATHS = ("/-/",)
# Ray Serve's proxy adds it to every answer, and what a replica says has it already.
_NAME = "x-request-id"


class ReplicaLost(TryAgainLater):
    status = 503
    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("the replica that worked on this has ended", 1)


def middlewares() -> list[Middleware]:
    return [Middleware(ErrorShapeMiddleware)]


class ErrorShapeMiddleware:
    """Replaces what no replica has said: that too much waits, or nothing at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OWN_PATHS):
            return await self._app(scope, receive, send)
        answer = _Answer(send)
        await self._app(scope, receive, answer.send)
        if not answer.begun:
            refused = failure_response(route_path(scope), answer.refusal or ReplicaLost())
            refused.headers[_NAME] = Headers(scope=scope).get(_NAME, "")
            await refused(scope, receive, send)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.refusal: WhisperServerError | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            names = headers.getlist(_NAME)
            if len(names) < 2 and message["status"] in (408, 503):
                self.refusal = Overloaded("all replicas are busy", _RETRY_AFTER)
            else:
                headers[_NAME] = names[0]
        if self.refusal is None:
            self.begun = True
            await self._send(message)
