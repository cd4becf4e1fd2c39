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
    """Answers as Ray Serve's does: what it says itself has one name, what a replica says has two."""

    def __init__(self, status: int, names: int, headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self._names = names
        self._headers = headers or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = PlainTextResponse("whatever", self._status, self._headers)
        answer.raw_headers += [(b"x-request-id", b"r1")] * self._names
        await answer(scope, receive, send)


class Silent:
    """As after the end of the replica that had the request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


def client(endpoint: object) -> TestClient:
    return TestClient(Starlette(routes=[Route("/{path:path}", endpoint)], middleware=middlewares()))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [408, 503])
def test_a_refusal_of_the_proxy_has_the_clients_shape(status: int) -> None:
    answer = client(Proxy(status, 1)).get("/v1/models", headers={"x-request-id": "r1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "overloaded"
    assert answer.headers.get_list("x-request-id") == ["r1"]
    assert client(Proxy(status, 1)).get("/recognise").json() == {"error": "all replicas are busy; try again later"}


def test_what_a_replica_says_stays() -> None:
    answer = client(Proxy(503, 2, {"retry-after": "7"})).get("/v1/models")
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "whatever", "7")
    assert answer.headers.get_list("x-request-id") == ["r1"]
    assert client(Proxy(200, 2)).get("/").text == "whatever"


def test_a_replica_that_is_lost_is_a_reason_to_try_again() -> None:
    answer = client(Silent()).get("/v1/models", headers={"x-request-id": "r2"})
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-request-id"]) == (503, "1", "r2")
    assert answer.json()["error"]["code"] == "server_stopping"


def test_rays_own_addresses_are_its_own() -> None:
    assert client(Proxy(503, 1)).get("/-/healthz").text == "whatever"


def test_sockets_pass() -> None:
    async def hello(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", hello)], middleware=middlewares())
    with TestClient(app).websocket_connect("/") as socket:
        assert socket.receive_text() == "hello"
