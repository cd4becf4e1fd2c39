from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

KEY = "a-secret-of-the-tests"
FRIEND = "https://friend.example"


def post(client: TestClient, origin: str, host: str = "localhost:5000") -> int:
    return client.post("/reload", headers={"origin": origin, "host": host}, content=b"[]").status_code


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:5000", "localhost:5000"),
        ("http://LOCALHOST", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://localhost", "localhost"),
        ("https://localhost:443", "localhost:443"),
        ("http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_requests_of_the_same_origin_are_accepted(client: TestClient, origin: str, host: str) -> None:
    assert post(client, origin, host) == 400


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "localhost:5000"),
        ("http://localhost:8000", "localhost:5000"),
        ("http://127.0.0.1:5000", "localhost:5000"),
        ("https://localhost", "localhost:80"),
        ("null", "localhost:5000"),
        ("file://", "localhost"),
        ("", "localhost"),
        ("http://[", "localhost"),
        ("http://localhost:port", "localhost"),
    ],
)
def test_requests_of_other_origins_are_refused(client: TestClient, origin: str, host: str) -> None:
    assert post(client, origin, host) == 403


def test_requests_without_an_origin_are_accepted(client: TestClient) -> None:
    assert client.post("/reload", content=b"[]").status_code == 400


def test_safe_methods_are_accepted_but_get_no_cors_headers(client: TestClient) -> None:
    response = client.get("/health", headers={"origin": "https://evil.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_a_websocket_of_another_origin_is_refused(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/nowhere", headers={"origin": "https://evil.example"}),
    ):
        pass
    assert caught.value.status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/nowhere", headers={"origin": "http://testserver"}),
    ):
        pass


def test_requests_of_an_allowed_origin_are_accepted_with_cors_headers(client_with: Callable[..., TestClient]) -> None:
    client = client_with(allow_origin=(FRIEND, "null"), api_key=(KEY,))
    preflight = client.options(
        "/recognise",
        headers={
            "origin": FRIEND,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == FRIEND
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for headers, status in (({}, 401), ({"authorization": f"Bearer {KEY}"}, 400)):
        response = client.post("/recognise", headers={"origin": FRIEND, **headers})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == FRIEND
        assert "x-request-id" in response.headers["access-control-expose-headers"]
    assert post(client, "null") == 401
    assert post(client, "https://friend.example.evil.example") == 403


def test_preflights_of_other_origins_are_refused(client_with: Callable[..., TestClient]) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    refused = client_with(allow_origin=(FRIEND,)).options("/recognise", headers=headers)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    refused = client_with().options("/recognise", headers=headers)
    assert (refused.status_code, "--allow-origin 'https://evil.example'" in refused.text) == (403, True)


@pytest.mark.parametrize("origin", ["app://obsidian.md", "chrome-extension://abcdef", "https://anywhere.example"])
def test_any_origin_is_accepted_by_a_server_with_keys(client_with: Callable[..., TestClient], origin: str) -> None:
    client = client_with(api_key=(KEY,))
    preflight = client.options("/recognise", headers={"origin": origin, "access-control-request-method": "POST"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "*")
    response = client.post("/recognise", headers={"origin": origin, "authorization": f"Bearer {KEY}"})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (400, "*")
    assert client.post("/recognise", headers={"origin": origin}).status_code == 401


def test_an_extension_is_refused_by_a_server_without_keys_unless_it_is_allowed(
    client_with: Callable[..., TestClient],
) -> None:
    refused = client_with().post("/reload", headers={"origin": "app://obsidian.md"}, content=b"[]")
    assert (refused.status_code, "--allow-origin 'app://obsidian.md'" in refused.text) == (403, True)
    assert post(client_with(allow_origin=("app://obsidian.md",)), "app://obsidian.md") == 400


def test_a_star_allows_any_origin(client_with: Callable[..., TestClient]) -> None:
    assert post(client_with(allow_origin=("*",)), "https://evil.example") == 400
