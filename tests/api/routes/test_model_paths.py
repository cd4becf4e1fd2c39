"""A model that the operator named by its path: clients see its directory's name only."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST
from inference.stand_in_hub import use_hub
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings

NAMES = ("my-whisper", "tiny.en", "openai/whisper-tiny.en", "whisper-1", "gpt-live-transcribe")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """tiny.en, with the origin in its configuration, in a directory whose path is a secret."""
    directory = tmp_path_factory.mktemp("secret") / "my-whisper"
    directory.mkdir()
    for file in weights.iterdir():
        if file.name != "config.json":
            (directory / file.name).symlink_to(file)
    config = json.loads((weights / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "_name_or_path": "openai/whisper-tiny.en"}))
    return directory


def settings_of(path: Path, data_dir: Path, **changed: Any) -> Settings:
    return Settings(
        model=str(path),
        device="cpu",
        offline=True,
        autotune=False,
        workers=1,
        data_dir=data_dir,
        models_dir=data_dir / "models",
        allow_host=(HOST,),
        **changed,
    )


@pytest.fixture(scope="module")
def server(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = settings_of(directory, tmp_path_factory.mktemp("data"))
    models = load_models(settings)
    with TestClient(create_app(settings, models)) as client:
        yield client
    models.close()


def seen(response: Any) -> str:
    return f"{response.text} {response.headers}"


def test_no_response_has_the_path(server: TestClient, directory: Path, audio: Path) -> None:
    clip = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    form = {"response_format": "verbose_json"}
    job = server.post("/v1/jobs", files=clip).json()
    responses = [
        *(server.get(path) for path in ("/v1/models", "/v1/models/tiny.en", "/ready", "/metrics", "/web/server.json")),
        server.get(f"/v1/jobs/{job['id']}"),
        server.get(f"/v1/jobs/{job['id']}/events"),
        server.get(f"/v1/jobs/{job['id']}/result"),
        *(server.post("/v1/audio/transcriptions", files=clip, data={**form, "model": name}) for name in NAMES[-2:]),
        server.post("/v1/audio/transcriptions", files=clip, data={"model": "base"}),
        server.post("/v1/stream", content=bytes(3200), headers={"content-type": "audio/l16;rate=16000"}),
        server.post("/v1/realtime/client_secrets", json={"session": {"type": "transcription"}}),
        server.delete("/v1/models/my-whisper"),
        server.post("/unload"),
        server.post("/unload", json={"model_name": "base"}),
        server.post("/reload", json={"model_name": "my-whisper"}),
        server.post("/reload", json={"model_name": "base-int8"}),
    ]
    assert [response.status_code for response in responses] == [200] * 10 + [404, 200, 200, 409, 200, 404, 200, 404]
    assert [seen(response) for response in responses if "secret" in seen(response).replace("client_secret", "")] == []
    assert (
        'whisper_model_info{compute_type="int8_float32",device="cpu",name="my-whisper"}' in server.get("/metrics").text
    )
    assert server.get("/v1/models/tiny.en").json()["id"] == job["model"] == "my-whisper"


@pytest.mark.parametrize(
    ("url", "frame"),
    [
        ("/v1/stream?model=tiny.en", {"type": "end"}),
        ("/v1/listen?encoding=linear16&sample_rate=16000&model=my-whisper", {"type": "CloseStream"}),
    ],
)
def test_no_message_has_the_path(server: TestClient, directory: Path, url: str, frame: dict[str, str]) -> None:
    with server.websocket_connect(url) as websocket:
        websocket.send_bytes(bytes(16_000))
        websocket.send_json(frame)
        text = ""
        while (message := websocket.receive())["type"] == "websocket.send":
            text += message["text"]
    assert "my-whisper" in text
    assert str(directory.parent) not in text


def test_no_event_has_the_path(server: TestClient, directory: Path) -> None:
    with server.websocket_connect("/v1/realtime?model=gpt-live-transcribe") as websocket:
        text = json.dumps(websocket.receive_json())
        for model in (*NAMES, "gpt-tomorrow", "base"):
            transcription = {"audio": {"input": {"transcription": {"model": model}}}}
            websocket.send_json({"type": "session.update", "session": {"type": "transcription", **transcription}})
            event = websocket.receive_json()
            assert event["type"] == ("error" if model == "base" else "session.updated")
            text += json.dumps(event)
        websocket.send_json({"type": "input_audio_buffer.append", "audio": b64encode(bytes(4800)).decode()})
        websocket.send_json({"type": "input_audio_buffer.commit"})
        text += json.dumps(websocket.receive_json())
    assert "this server has my-whisper" in text
    assert str(directory.parent) not in text


@pytest.mark.parametrize("missing", ["my-whisper", "my-whisper/tokenizer.json"])
def test_a_lazy_server_without_its_model_shows_clients_no_path(
    tmp_path: Path, directory: Path, audio: Path, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "secret" / "my-whisper"
    copy.mkdir(parents=True)
    for file in directory.iterdir():
        (copy / file.name).symlink_to(file)
    caplog.set_level("INFO", "whisper_server")
    settings = settings_of(copy, tmp_path / "data", lazy_load=True)
    models = load_models(settings)
    (copy / "tokenizer.json").unlink()
    if missing == "my-whisper":
        copy.rename(copy.with_name("moved"))
    with TestClient(create_app(settings, models)) as client:
        for response in (
            client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()}),
            client.post("/v1/audio/transcriptions", files={"file": (audio / "short.flac").read_bytes()}),
            client.get("/v1/models"),
        ):
            assert "secret" not in seen(response)
            assert "my-whisper" in response.text
    assert "secret" in caplog.text


def test_a_lazy_server_whose_hub_does_not_respond_shows_clients_no_path(tmp_path: Path, audio: Path) -> None:
    directories = settings_of(tmp_path, tmp_path / "secret")
    settings = replace(directories, model="small", offline=False, lazy_load=True)
    with (
        use_hub("http://127.0.0.1:9", tmp_path / "hub"),
        TestClient(create_app(settings, load_models(settings))) as client,
    ):
        response = client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()})
    assert response.status_code == 503
    assert response.json()["error"] == "model 'small' is missing on this server; its log has the details"
