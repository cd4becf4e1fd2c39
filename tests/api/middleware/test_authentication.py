from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from whisper_server.api.middleware.authentication import AuthenticationMiddleware
from whisper_server.core.api_keys import Keyring, create_key
from whisper_server.core.client_secrets import ClientSecrets

KEY, SECRET = create_key("laptop")
CLIENT_SECRETS = ClientSecrets(b"a secret of the tests")
BEARER = {"authorization": f"Bearer {SECRET}"}
REFUSALS = [
    {},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer " + SECRET[:-1]},
    {"authorization": "Basic " + SECRET},
    {"authorization": SECRET},
    {"x-api-key": SECRET[:-1]},
    {"api-key": ""},
    {"authorization": "Bearer " + "x" * 50_000},
]


async def key_name(request: Request) -> Response:
    return PlainTextResponse(request.state.key)


async def send_key_name(websocket: WebSocket) -> None:
    await websocket.accept("realtime" if "realtime" in websocket.scope["subprotocols"] else None)
    await websocket.send_text(websocket.state.key)
    await websocket.close()


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    app = Starlette(
        routes=[Route("/a", key_name), Route("/v1/a", key_name), WebSocketRoute("/v1/realtime", send_key_name)],
        middleware=[Middleware(AuthenticationMiddleware, keyring=Keyring([KEY]), client_secrets=CLIENT_SECRETS)],
    )
    with TestClient(app) as client:
        yield client


def test_a_valid_key_is_accepted(guarded: TestClient) -> None:
    assert guarded.get("/a", headers=BEARER).text == "laptop"
    assert guarded.get("/a", headers={"authorization": f"bearer  {SECRET} "}).text == "laptop"
    assert guarded.get("/a", headers={"api-key": SECRET}).text == "laptop"  # as Azure's clients send it
    assert guarded.get("/a", headers={"x-api-key": SECRET}).text == "laptop"


@pytest.mark.parametrize("headers", REFUSALS, ids=map(str, range(len(REFUSALS))))
def test_requests_without_a_valid_key_are_refused(guarded: TestClient, headers: dict[str, str]) -> None:
    response = guarded.get("/a", headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert list(response.json()) == ["error"]


def test_errors_below_v1_have_openais_shape(guarded: TestClient) -> None:
    error = guarded.get("/v1/a").json()["error"]
    assert error.pop("message")
    assert error == {"type": "authentication_error", "param": None, "code": "invalid_api_key"}


def test_a_key_in_the_query_of_a_request_is_ignored(guarded: TestClient) -> None:
    assert guarded.get(f"/a?api_key={SECRET}").status_code == 401


def connect(client: TestClient, url: str, subprotocols: list[str], headers: dict[str, str]) -> tuple[str, str | None]:
    with client.websocket_connect(url, subprotocols=subprotocols, headers=headers) as websocket:
        return websocket.receive_text(), websocket.accepted_subprotocol


def test_a_websocket_accepts_a_key_in_subprotocol_query_or_header(guarded: TestClient) -> None:
    subprotocols = ["realtime", f"openai-insecure-api-key.{SECRET}"]
    assert connect(guarded, "/v1/realtime", subprotocols, {}) == ("laptop", "realtime")
    assert connect(guarded, f"/v1/realtime?api_key={SECRET}", [], {}) == ("laptop", None)
    assert connect(guarded, "/v1/realtime", [], BEARER) == ("laptop", None)


@pytest.mark.parametrize("query", ["", "?api_key=", "?api_key=x", "?" + "&".join("api_key=x" for _ in range(200))])
def test_a_websocket_without_a_valid_key_is_refused_in_the_handshake(guarded: TestClient, query: str) -> None:
    with pytest.raises(WebSocketDenialResponse) as caught:
        connect(guarded, f"/v1/realtime{query}", ["openai-insecure-api-key.x"], {})
    assert caught.value.status_code == 401
    assert caught.value.json()["error"]["code"] == "invalid_api_key"


def test_a_websocket_is_closed_if_the_server_cannot_send_a_denial_response() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def never() -> Message:
        raise AssertionError("the body of a refused request must not be read")

    async def app(*_: object) -> None:
        raise AssertionError("the application must not be called")

    scope = {"type": "websocket", "path": "/v1/realtime", "query_string": b"", "headers": []}
    anyio.run(AuthenticationMiddleware(app, keyring=Keyring([KEY]), client_secrets=CLIENT_SECRETS), scope, never, send)
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


def test_only_probes_and_pages_need_no_key(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(SECRET,))
    for path in ("/", "/web/app/main.js", "/health", "/ready"):
        assert client.get(path).status_code == 200, path
    for path in ("/metrics", "/openapi.json", "/nowhere", "/web", "/health/x", "/healthy"):
        assert client.get(path, follow_redirects=False).status_code == 401, path
    assert client.post("/recognise").status_code == client.post("/reload").status_code == 401
    assert client.post("/reload", headers=BEARER, json=[]).status_code == 400


def test_without_configured_keys_every_request_is_accepted(client: TestClient) -> None:
    assert client.post("/recognise").status_code == 400
    with pytest.raises(WebSocketDisconnect):  # there is no such address
        connect(client, "/nowhere", [], {})


def test_a_client_secret_is_accepted_by_websockets_only(guarded: TestClient) -> None:
    value, _ = CLIENT_SECRETS.make("laptop", {}, seconds=10)
    assert connect(guarded, "/v1/realtime", ["realtime", f"openai-insecure-api-key.{value}"], {}) == (
        "laptop",
        "realtime",
    )
    assert guarded.get("/v1/a", headers={"authorization": f"Bearer {value}"}).status_code == 401


def test_the_token_scheme_of_deepgrams_clients_is_accepted(guarded: TestClient) -> None:
    assert connect(guarded, "/v1/realtime", [], {"authorization": f"Token {SECRET}"}) == ("laptop", None)
    assert connect(guarded, "/v1/realtime", ["token", SECRET], {}) == ("laptop", None)


def test_a_key_with_the_scope_use_may_not_change_models(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
    (phone, secret), (laptop, admin_secret) = create_key("phone", "use"), create_key("laptop")
    (tmp_path / "keys").write_text(f"{phone.line}\n{laptop.line}\n")
    client = client_with(api_key_file=tmp_path / "keys", jobs=False)
    allowed = {"authorization": f"Bearer {admin_secret}"}
    changes = (
        ("POST", "/reload"),
        ("POST", "/unload"),
        ("POST", "/v1/models/small"),
        ("DELETE", "/v1/models/small?files=true"),
        ("DELETE", "/v1/models/base"),
    )
    for method, path in changes:
        refused = client.request(method, path, content=b"[]", headers={"authorization": f"Bearer {secret}"})
        assert refused.status_code == 403
        assert "it has the scope use" in refused.text
        assert client.request(method, path, content=b"[]", headers=allowed).status_code in (400, 404)
    assert refused.json()["error"]["code"] == "insufficient_permissions"
    for path in ("/v1/models", "/v1/models?available=true", "/v1/models/tiny.en", "/metrics"):
        assert client.get(path, headers={"authorization": f"Bearer {secret}"}).status_code == 200
