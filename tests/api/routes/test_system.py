from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings


def test_a_server_with_a_model_is_healthy_and_ready(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert (client.get("/ready").status_code, client.get("/ready").json()) == (200, {"status": "ready"})


def test_a_model_without_workers_is_not_ready(settings: Settings, audio: Path) -> None:
    models = load_models(settings)
    with TestClient(create_app(settings, models)) as client:
        models.close()
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
        response = client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()})
        assert (response.status_code, response.json()) == (500, {"error": "the model has been unloaded"})


def test_a_full_server_responds_with_retry_after(client_with: Callable[..., TestClient], audio: Path) -> None:
    client = client_with(max_requests=1)
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    with client.app_state["transcriber"].admission.admit():
        response = client.post("/recognise", files=files)
        assert response.status_code == 503
        assert response.json() == {"error": "1 requests are in progress; try again later"}
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/health").status_code == 200
    assert client.post("/recognise", files=files).status_code == 200


@pytest.mark.usefixtures("always_computing")
def test_a_missed_deadline_is_a_504(client: TestClient, audio: Path) -> None:
    files = {"file": ("long.flac", (audio / "long.flac").read_bytes())}
    response = client.post("/recognise", files=files, data={"timeout": "0.1"})
    assert (response.status_code, response.json()) == (
        504,
        {"error": "the request exceeded its time limit of 0.1 seconds"},
    )


def test_the_encoder_window_is_an_option(client: TestClient, audio: Path) -> None:
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    response = client.post("/recognise", files=files, data={"encoder_window": "adaptive"})
    assert "stove" in response.json()["transcription"]["text"]
    assert client.post("/recognise", files=files, data={"encoder_window": "half"}).status_code == 400
