from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models_dir = tmp_path_factory.mktemp("models")
    weights = PackagedModels(PACKAGES, cache_dir=models_dir).find("tiny.en")
    assert weights is not None
    for name in ("first", "second", "third"):
        (models_dir / name).symlink_to(weights)
    (models_dir / "damaged").mkdir()
    (models_dir / "damaged" / "model.bin").write_bytes(b"no weights")
    return models_dir


@pytest.fixture
def on_demand(models_dir: Path) -> Iterator[TestClient]:
    """A server that was started with a path, and that has room for one model more."""
    settings = Settings(
        model=str(models_dir / "first"),
        models_dir=models_dir,
        device="cpu",
        offline=True,
        on_demand_models=True,
        autotune=False,
        workers=1,
        allow_host=(HOST,),
    )
    models = load_models(settings)
    with TestClient(create_app(settings, models)) as client:
        yield client
    models.close()


def ids(client: TestClient) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"] if "alias_of" not in model]


def transcribed(client: TestClient, audio: Path, model: str) -> tuple[int, Any]:
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    response = client.post("/v1/audio/transcriptions", files=files, data={"model": model})
    return response.status_code, response.json()


def test_the_list_has_the_served_model(client: TestClient) -> None:
    body = client.get("/v1/models").json()
    assert list(body) == ["object", "data"]
    assert body["object"] == "list"
    model, alias = body["data"]
    assert list(model) == ["id", "object", "created", "owned_by", "state", "memory"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny.en", "model", "whisper-server")
    assert (model["state"], model["memory"]["device"], model["memory"]["compute_type"]) == ("loaded", "cpu", "int8")
    assert 0 < model["memory"]["planned_bytes"] <= model["memory"]["free_bytes"]
    assert isinstance(model["created"], int) and 0 <= time.time() - model["created"] < 3600
    assert alias == {**model, "id": "whisper-1", "alias_of": "tiny.en"}
    assert client.get("/v1/models/whisper-1").json() == alias


@pytest.mark.parametrize(
    "name",
    [
        "tiny.en",
        "gpt-live-transcribe",
        "whisper",
        "whisper-tiny.en",
        "openai/whisper-tiny.en",
        "Systran%2Ffaster-whisper-tiny.en",
        "Systran/faster-whisper-tiny.en",
    ],
)
def test_a_model_is_found_by_any_of_its_names(client: TestClient, name: str) -> None:
    assert client.get(f"/v1/models/{name}").json() == client.get("/v1/models").json()["data"][0]


def test_the_size_in_a_name_counts(client: TestClient, audio: Path) -> None:
    status, body = transcribed(client, audio, "whisper-base")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert body["error"]["message"].startswith("model 'whisper-base' is not served here; this server has tiny.en;")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["base", "some%2Fone", "../tiny.en", "%00"])
def test_a_model_that_is_not_loaded_is_a_404(client: TestClient, method: str, name: str) -> None:
    response = client.request(method, f"/v1/models/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["tiny.en", "whisper-1"])
def test_the_served_model_cannot_be_deleted(client: TestClient, name: str) -> None:
    response = client.delete(f"/v1/models/{name}")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "model_in_use")
    assert response.headers["x-should-retry"] == "false"


def test_a_model_is_loaded_on_demand_and_replaces_an_idle_one(on_demand: TestClient, audio: Path) -> None:
    assert ids(on_demand) == ["first"]
    for name in ("second", "third", "first", "whisper-1", "third"):
        status, body = transcribed(on_demand, audio, name)
        assert (status, "kettle" in body["text"]) == (200, True)
    assert ids(on_demand) == ["first", "third"]


def test_a_model_that_was_loaded_on_demand_can_be_deleted(on_demand: TestClient, audio: Path) -> None:
    assert transcribed(on_demand, audio, "second")[0] == 200
    assert on_demand.delete("/v1/models/second").json() == {"id": "second", "object": "model", "deleted": True}
    assert ids(on_demand) == ["first"]
    assert on_demand.delete("/v1/models/second").status_code == 404


@pytest.mark.parametrize(("name", "status"), [("nosuch", 404), ("damaged", 500), ("../first", 404), ("large-v3", 404)])
def test_a_model_that_does_not_load_changes_nothing(on_demand: TestClient, audio: Path, name: str, status: int) -> None:
    actual_status, body = transcribed(on_demand, audio, name)
    assert (actual_status, list(body["error"])) == (status, ["message", "type", "param", "code"])
    assert ids(on_demand) == ["first"]


def test_concurrent_requests_load_a_model_once(
    on_demand: TestClient, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "whisper_server"), ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: transcribed(on_demand, audio, "second")[0], range(4)))
    assert outcomes == [200] * 4
    assert sum(record.getMessage().startswith("loading second") for record in caplog.records) == 1
