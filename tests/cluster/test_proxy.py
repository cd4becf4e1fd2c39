from __future__ import annotations

from collections.abc import Mapping

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from whisper_server.cluster.proxy import middlewares


class Proxy:
    """Responds as Ray Serve's proxy: with one request id if the response is its own, with two if it is a replica's."""

    def __init__(self, status: int, request_ids: int, headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self._request_ids = request_ids
        self._headers = headers or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = PlainTextResponse("whatever", self._status, self._headers)
        response.raw_headers += [(b"x-request-id", b"r1")] * self._request_ids
        await response(scope, receive, send)


class NoResponse:
    """Ends without a response, as the proxy does when the replica with the request has died."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


def client(endpoint: object) -> TestClient:
    return TestClient(Starlette(routes=[Route("/{path:path}", endpoint)], middleware=middlewares()))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [408, 503])
def test_a_refusal_of_the_proxy_has_the_error_shape_of_the_server(status: int) -> None:
    response = client(Proxy(status, 1)).get("/v1/models", headers={"x-request-id": "r1"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["error"]["code"] == "overloaded"
    assert response.headers.get_list("x-request-id") == ["r1"]
    assert client(Proxy(status, 1)).get("/recognise").json() == {"error": "all replicas are busy; try again later"}


def test_a_response_of_a_replica_is_unchanged() -> None:
    response = client(Proxy(503, 2, {"retry-after": "7"})).get("/v1/models")
    assert (response.status_code, response.text, response.headers["retry-after"]) == (503, "whatever", "7")
    assert response.headers.get_list("x-request-id") == ["r1"]
    assert client(Proxy(200, 2)).get("/").text == "whatever"


def test_a_lost_replica_is_a_503_to_retry() -> None:
    response = client(NoResponse()).get("/v1/models", headers={"x-request-id": "r2"})
    assert (response.status_code, response.headers["retry-after"], response.headers["x-request-id"]) == (503, "1", "r2")
    assert response.json()["error"]["code"] == "server_stopping"


def test_paths_of_ray_itself_are_unchanged() -> None:
    assert client(Proxy(503, 1)).get("/-/healthz").text == "whatever"


def test_websockets_are_unchanged() -> None:
    async def hello(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", hello)], middleware=middlewares())
    with TestClient(app).websocket_connect("/") as socket:
        assert socket.receive_text() == "hello"
