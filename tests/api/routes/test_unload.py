from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager


@pytest.fixture
def lazy() -> Iterator[ModelManager]:
    settings = Settings(model="tiny.en", device="cpu", offline=True, autotune=False, workers=1, lazy_load=True)
    models = load_models(settings)
    yield models
    models.close()


@pytest.fixture
def client(lazy: ModelManager) -> Iterator[TestClient]:
    settings = Settings(model="tiny.en", device="cpu", offline=True, allow_host=(HOST,))
    with TestClient(create_app(settings, lazy)) as serving:
        yield serving


def listed(client: TestClient) -> dict[str, Any]:
    model, _ = client.get("/v1/models").json()["data"]
    assert client.get(f"/v1/models/{model['id']}").json() == model
    entry: dict[str, Any] = model
    return entry


def transcribed(client: TestClient, audio: Path, **fields: str) -> str:
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    response = client.post("/recognise", files=files, data={"encoder_window": "adaptive", **fields})
    text: str = response.json()["transcription"]["text"]
    return text


def test_a_lazy_server_is_ready_and_loads_with_the_first_request(client: TestClient, audio: Path) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    assert (listed(client)["id"], listed(client)["state"]) == ("tiny.en", "released")
    assert 'whisper_model_state{whisper_model_state="released"} 1.0' in client.get("/metrics").text
    assert "stove" in transcribed(client, audio)
    assert listed(client)["state"] == "loaded"
    assert 'whisper_model_state{whisper_model_state="loaded"} 1.0' in client.get("/metrics").text
    assert 'whisper_memory_steps_total{step="batch"} 0.0' in client.get("/metrics").text


def test_an_unloaded_model_is_loaded_by_the_next_request(client: TestClient, audio: Path) -> None:
    assert client.post("/unload").json() == {"message": "Model tiny.en unloaded"}
    text = transcribed(client, audio)
    response = client.post("/unload", json={"model_name": "tiny.en"})
    assert (response.status_code, response.json()) == (200, {"message": "Model tiny.en unloaded"})
    assert listed(client)["state"] == "released"
    assert 'compute_type="int8_float32"' in client.get("/metrics").text
    assert transcribed(client, audio, keep_alive="-1") == text


def test_a_model_in_use_is_unloaded_afterwards(client: TestClient, lazy: ModelManager) -> None:
    with lazy.lease():
        assert client.post("/unload").status_code == 202
        assert listed(client)["state"] == "loaded"
    assert listed(client)["state"] == "released"


@pytest.mark.parametrize(
    ("body", "status"), [(b"x", 400), (b"[]", 400), (b'{"model_name": 1}', 400), (b'{"model_name": "nosuch"}', 404)]
)
def test_an_invalid_unload_request_is_an_error(client: TestClient, body: bytes, status: int) -> None:
    response = client.post("/unload", content=body)
    assert (response.status_code, list(response.json())) == (status, ["error"])


def test_an_invalid_keep_alive_is_refused(client: TestClient, audio: Path) -> None:
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    response = client.post("/recognise", files=files, data={"keep_alive": "-2"})
    assert (response.status_code, "keep_alive" in response.json()["error"]) == (400, True)
