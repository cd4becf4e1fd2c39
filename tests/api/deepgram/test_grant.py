from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripted import Script, scripted
from starlette.testclient import TestClient, WebSocketDenialResponse

KEY = "a-key-of-the-tests"
LISTEN = "/v1/listen?encoding=linear16&sample_rate=16000"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("body", "seconds"), [(None, 30), ({}, 30), ({"ttl_seconds": None}, 30), ({"ttl_seconds": 3600.0}, 3600)]
)
def test_a_token_is_granted(body: Any, seconds: int) -> None:
    with scripted() as (client, _):
        granted = client.post("/v1/auth/grant", json=body) if body is not None else client.post("/v1/auth/grant")
    assert granted.json()["access_token"] and granted.json()["expires_in"] == seconds


@pytest.mark.parametrize("value", [0, 3601, -1, 0.5, "30", True, [], 10**400])
def test_an_invalid_lifetime_is_refused_in_deepgrams_shape(value: object) -> None:
    with scripted() as (client, _):
        response = client.post("/v1/auth/grant", json={"ttl_seconds": value})
    assert response.status_code == 400
    assert response.json()["err_code"] == "Bad Request"
    assert response.json()["err_msg"].startswith("ttl_seconds: ")
    assert response.headers["dg-error"] == response.json()["err_msg"]


@pytest.mark.parametrize("body", ["[]", "{", '{"ttl_seconds": "\\ud800"}', "x" * 5000])
def test_an_invalid_body_is_refused(body: str) -> None:
    with scripted() as (client, _):
        assert client.post("/v1/auth/grant", content=body).status_code in (400, 413)


def test_a_token_opens_sessions_and_transcribes_files_and_nothing_else(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,), jobs=False)
    assert client.post("/v1/auth/grant").status_code == 401
    token = client.post("/v1/auth/grant", headers=bearer(KEY)).json()["access_token"]
    for headers in (bearer(token), {"authorization": f"Token {token}"}):
        with client.websocket_connect(LISTEN, headers=headers) as websocket:
            websocket.send_json({"type": "CloseStream"})
            assert websocket.receive_json()["type"] == "Metadata"
        assert client.post("/v1/listen", headers=headers, content=b"no audio").status_code == 400
    with client.websocket_connect(LISTEN, subprotocols=["bearer", token]) as websocket:
        assert websocket.accepted_subprotocol == "bearer"
    with client.websocket_connect("/v1/realtime", headers=bearer(token)) as websocket:
        assert websocket.receive_json()["type"] == "session.created"
    for path in ("/v1/auth/grant", "/v1/audio/transcriptions", "/v1/jobs", "/v1/realtime/client_secrets"):
        assert client.post(path, headers=bearer(token)).status_code == 401
    assert client.get("/v1/listen", headers=bearer(token)).status_code == 401


def test_a_client_secret_of_realtime_sessions_transcribes_no_files(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,), jobs=False)
    secret = client.post("/v1/realtime/client_secrets", headers=bearer(KEY), json={}).json()["value"]
    assert client.post("/v1/listen", headers=bearer(secret), content=b"x").status_code == 401


def test_refusals_have_deepgrams_shape_and_headers(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,), jobs=False)
    response = client.post("/v1/listen", content=b"x", headers={"x-request-id": "r1"})
    assert (response.status_code, response.json()["err_code"]) == (401, "INVALID_AUTH")
    assert response.json()["request_id"] == response.headers["dg-request-id"] == "r1"
    assert response.headers["dg-error"] == response.json()["err_msg"]
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(LISTEN):
        pass
    assert (caught.value.status_code, caught.value.json()["err_code"]) == (401, "INVALID_AUTH")
    assert caught.value.headers["dg-error"] and caught.value.headers["dg-request-id"]
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/v2/listen", headers=bearer(KEY)):
        pass
    assert (caught.value.status_code, "/v1/listen" in caught.value.headers["dg-error"]) == (404, True)


def test_accepted_handshakes_have_the_id_of_the_request(client_with: Callable[..., TestClient]) -> None:
    client = client_with(jobs=False)
    with client.websocket_connect(LISTEN, headers={"x-request-id": "r1"}) as websocket:
        assert (b"dg-request-id", b"r1") in (websocket.extra_headers or ())


def test_a_header_with_the_error_is_one_line_of_ascii() -> None:
    with scripted(Script(())) as (client, _):
        query = "model=" + "%E2%82%AC" * 200
        with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(f"/v1/listen?{query}"):
            pass
    header = caught.value.headers["dg-error"]
    assert header.isascii() and header.isprintable() and len(header) <= 300
