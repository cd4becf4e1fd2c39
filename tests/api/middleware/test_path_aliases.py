from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from whisper_server.api.middleware.path_aliases import PathAliasesMiddleware, canonical_path


@pytest.mark.parametrize(
    ("path", "canonical", "query"),
    [
        ("/", "/", ""),
        ("//", "/", ""),
        ("//v1/models", "/v1/models", ""),
        ("/v1//audio///transcriptions", "/v1/audio/transcriptions", ""),
        ("/v1/models/", "/v1/models", ""),
        ("/v1/v1/audio/transcriptions", "/v1/audio/transcriptions", ""),
        ("/audio/transcriptions", "/v1/audio/transcriptions", ""),
        ("/models", "/v1/models", ""),
        ("/models/tiny.en", "/v1/models/tiny.en", ""),
        ("/modelsx", "/modelsx", ""),
        ("/realtime", "/v1/realtime", ""),
        ("/openai/v1/audio/transcriptions", "/v1/audio/transcriptions", ""),
        ("/openai/deployments/tiny.en/audio/translations", "/v1/audio/translations", "model=tiny.en"),
        ("/openai/deployments/a b&c/audio/transcriptions", "/v1/audio/transcriptions", "model=a%20b%26c"),
        ("/openai/deployments/a/chat/completions", "/openai/deployments/a/chat/completions", ""),
        ("/recognise/", "/recognise", ""),
        ("/web/", "/web/", ""),
    ],
)
def test_paths_of_other_servers_mean_those_of_this_one(path: str, canonical: str, query: str) -> None:
    assert canonical_path(path) == (canonical, query)


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/", "/models", "/openai/v1/models"])
def test_they_are_served(client: httpx2.Client, path: str) -> None:
    assert client.get(f"{client.base_url}".rstrip("/") + path).json() == client.get("/v1/models").json()


def test_azures_clients_send_a_deployment_and_their_own_header(
    client_with: Callable[..., TestClient], audio: Path
) -> None:
    client = client_with(api_key=("a-secret-of-the-tests",))
    path = "/openai/deployments/{}/audio/transcriptions?api-version=2025-03-01-preview"
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    assert client.post(path.format("tiny.en"), files=files).status_code == 401
    headers = {"api-key": "a-secret-of-the-tests"}
    response = client.post(path.format("tiny.en"), files=files, headers=headers)
    assert response.status_code == 200 and response.json()["text"]
    unknown = client.post(path.format("mine"), files=files, headers=headers)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_the_path_of_a_proxy_stays() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["query_string"]))

    async def call() -> None:
        scope = {"type": "http", "path": "/speech//models/", "root_path": "/speech", "query_string": b"a=1"}
        await PathAliasesMiddleware(app)(scope, receive, send)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    seen: list[tuple[str, bytes]] = []
    anyio.run(call)
    assert seen == [("/speech/v1/models", b"a=1")]
