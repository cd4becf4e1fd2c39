"""What could be served: listed, downloaded and deleted over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from conftest import HOST
from inference.stand_in_hub import FILES, StandInHub, serving_hub, use_hub
from starlette.testclient import TestClient

from whisper_server.api.openapi.schemas import SCHEMAS
from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import REPOSITORIES
from whisper_server.inference.models.manager import ModelManager

EVENTS = {"accept": "text/event-stream"}


def available(client: TestClient) -> dict[str, dict[str, Any]]:
    listed = client.get("/v1/models?available=true").json()
    assert listed["object"] == "list"
    return {model["id"]: model for model in listed["data"]}


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_what_could_be_served_is_listed(client: TestClient) -> None:
    models = available(client)
    tiny = models["tiny.en"]
    assert (tiny["source"], tiny["loaded"], tiny["deletable"]) == ("package", True, False)
    assert tiny["bytes"] > 75_000_000
    assert tiny["memory"].keys() == {"int8", "float32"}
    assert "hub" not in {model["source"] for model in models.values()}, "the server is offline"
    for model in models.values():
        jsonschema_rs.validate({**SCHEMAS["AvailableModel"], "additionalProperties": False}, model)
    assert client.get("/v1/models?available=false").json() == client.get("/v1/models").json()


def test_a_model_that_is_here_is_not_pulled_again(client: TestClient) -> None:
    assert client.post("/v1/models/whisper-tiny.en").json() == available(client)["tiny.en"]
    streamed = client.post("/v1/models/tiny.en?stream=true")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert events(streamed.text) == [{"type": "pull.done", "model": available(client)["tiny.en"]}]


@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", "model 'small' is not on this server, which runs with --offline"),
        ("someone/whisper", "known names are tiny.en"),
        ("..%2Fmodels", "known names are tiny.en"),
        ("whisper-1", "known names are tiny.en"),
    ],
)
def test_a_pull_that_is_refused_is_a_404(client: TestClient, name: str, message: str, headers: dict[str, str]) -> None:
    response = client.post(f"/v1/models/{name}", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        ("DELETE", "/v1/models/tiny.en?files=true", 409, "model_not_deletable"),
        ("DELETE", "/v1/models/whisper-1?files=true", 409, "model_in_use"),
        ("DELETE", "/v1/models/nosuch?files=true", 404, "model_not_found"),
        ("DELETE", "/v1/models/..%2F..?files=true", 404, "model_not_found"),
        ("DELETE", "/v1/models/tiny.en?files=perhaps", 400, "invalid_value"),
        ("POST", "/v1/models/tiny.en?stream=perhaps", 400, "invalid_value"),
        ("GET", "/v1/models?available=perhaps", 400, "invalid_value"),
    ],
)
def test_what_is_refused_changes_nothing(client: TestClient, method: str, url: str, status: int, code: str) -> None:
    before = available(client)
    response = client.request(method, url)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert available(client) == before


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The directory with `models`, and the model `own` beside it."""
    root = tmp_path_factory.mktemp("root")
    for name in ("own", "models/served", "models/mine"):
        (root / name).mkdir(parents=True)
        for file in weights.iterdir():
            (root / name / file.name).symlink_to(file)
    return root


@pytest.fixture(scope="module")
def manager(directories: Path) -> Iterator[ModelManager]:
    models = load_models(
        Settings(
            model="served",
            models_dir=directories / "models",
            device="cpu",
            on_demand_models=True,
            autotune=False,
            workers=1,
        )
    )
    yield models
    models.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInHub]:
    with serving_hub(REPOSITORIES["tiny"]) as served, use_hub(served.url, tmp_path_factory.mktemp("hub")):
        yield served


@pytest.fixture(scope="module")
def server(manager: ModelManager, hub: StandInHub) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(allow_host=(HOST,), jobs=False), manager)) as client:
        yield client


def test_a_model_is_pulled_and_deleted(server: TestClient, hub: StandInHub) -> None:
    assert available(server)["tiny"]["source"] == "hub"
    pulled = server.post("/v1/models/openai/whisper-tiny").json()
    assert (pulled["id"], pulled["source"], pulled["deletable"]) == ("tiny", "cache", True)
    assert available(server)["tiny"] == pulled
    assert server.delete("/v1/models/tiny").status_code == 404, "without files=true, only loaded models are meant"
    assert server.delete("/v1/models/tiny?files=true").json() == {"id": "tiny", "object": "model", "deleted": True}
    assert available(server)["tiny"]["source"] == "hub"
    (done,) = events(server.post("/v1/models/tiny", headers=EVENTS).text)
    stored = sum(len(body) for name, body in FILES.items() if name != "README.md")
    assert (done["type"], done["model"]["bytes"]) == ("pull.done", stored)


def test_a_hub_that_fails_is_a_503(server: TestClient, hub: StandInHub) -> None:
    hub.fail(f"/api/models/{REPOSITORIES['base.en']}", 500)
    for headers in ({}, EVENTS):
        response = server.post("/v1/models/base.en", headers=headers)
        assert response.status_code == 503
        assert "the Hugging Face hub did not deliver" in response.json()["error"]["message"]


def test_a_model_is_deleted_unless_it_is_served_or_in_use(
    server: TestClient, manager: ModelManager, directories: Path
) -> None:
    refused = server.delete("/v1/models/served?files=true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_in_use")
    with manager.lease("mine"):
        refused = server.delete("/v1/models/mine?files=true")
        assert refused.status_code == 409
        assert refused.json()["error"]["message"] == "requests use model 'mine' at the moment"
    assert available(server)["mine"]["loaded"]
    assert server.delete("/v1/models/mine?files=true").status_code == 200
    assert [model.id for model in manager.loaded] == ["served"]
    assert [path.name for path in (directories / "models").iterdir()] == ["served"]


def test_the_directory_that_the_operator_named_is_listed_but_not_deleted(
    manager: ModelManager, server: TestClient, directories: Path
) -> None:
    (directories / "models" / "link").symlink_to(directories / "own")
    manager.set_startup_model(str(directories / "own"))
    assert (available(server)["own"]["source"], available(server)["own"]["deletable"]) == ("disk", False)
    refused = server.delete("/v1/models/own?files=true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_not_deletable")
    assert str(directories) not in refused.text + server.get("/v1/models?available=true").text
    assert server.delete("/v1/models/link?files=true").status_code == 409
    assert (directories / "own" / "model.bin").is_file()
