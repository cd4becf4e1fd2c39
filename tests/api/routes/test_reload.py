from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

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
    """What a user has: two converted models that work, one that is damaged and one that is half there."""
    models_dir = tmp_path_factory.mktemp("models")
    weights = PackagedModels(PACKAGES, cache_dir=models_dir).find("tiny.en")
    assert weights is not None
    (models_dir / "mine").symlink_to(weights)
    (models_dir / "medium").symlink_to(weights)
    for name in ("damaged", "half"):
        (models_dir / name).mkdir()
        for file in weights.iterdir():
            (models_dir / name / file.name).symlink_to(file)
    (models_dir / "half" / "tokenizer.json").unlink()
    (models_dir / "damaged" / "model.bin").unlink()
    (models_dir / "damaged" / "model.bin").write_bytes((weights / "model.bin").read_bytes()[:30_000_000])
    return models_dir


@pytest.fixture(scope="module")
def reloadable(models_dir: Path) -> Iterator[TestClient]:
    settings = Settings(
        model=str(models_dir / "mine"),
        models_dir=models_dir,
        device="cpu",
        workers=1,
        autotune=False,
        offline=True,
        allow_host=(HOST,),
    )
    with TestClient(create_app(settings, load_models(settings))) as client:
        yield client


def recognised(client: TestClient, audio: Path, clip: str = "short.flac") -> str:
    response = client.post("/recognise", files={"file": (clip, (audio / clip).read_bytes())})
    assert response.status_code == 200
    text: str = response.json()["transcription"]["text"]
    return text


def test_reload_serves_the_new_model(reloadable: TestClient, audio: Path) -> None:
    response = reloadable.post("/reload", json={"model_name": "mine"})
    assert (response.status_code, response.json()) == (200, {"message": "Model mine loaded"})
    assert "stove" in recognised(reloadable, audio)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_medium_is_the_default(reloadable: TestClient, body: bytes) -> None:
    response = reloadable.post("/reload", content=body, headers={"content-type": "application/json"})
    assert response.json() == {"message": "Model medium loaded"}


def test_reload_accepts_the_configured_path(reloadable: TestClient, models_dir: Path) -> None:
    response = reloadable.post("/reload", json={"model_name": str(models_dir / "mine")})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nosuch", 404),
        ("large-v3", 404),
        ("someone/some-model", 404),
        ("../mine", 404),
        ("mine/../mine", 404),
        ("", 400),
        ("a" * 5000, 404),
        ("\0", 400),
        ("damaged", 500),
        ("half", 500),
    ],
)
def test_a_model_that_cannot_be_loaded_does_not_replace_the_served_one(
    reloadable: TestClient, audio: Path, name: str, status: int
) -> None:
    response = reloadable.post("/reload", json={"model_name": name})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert "stove" in recognised(reloadable, audio)


def test_a_client_may_not_name_a_path(reloadable: TestClient, models_dir: Path, audio: Path) -> None:
    response = reloadable.post("/reload", json={"model_name": str(models_dir / "medium")})
    assert response.status_code == 404
    assert "stove" in recognised(reloadable, audio)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"base"', b'{"model_name": 3}', b'{"model_name": null}', b"[" * 50_000])
def test_a_body_without_a_valid_model_name_is_a_400(reloadable: TestClient, body: bytes) -> None:
    response = reloadable.post("/reload", content=body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]


def test_a_large_body_is_refused(reloadable: TestClient) -> None:
    assert reloadable.post("/reload", content=b" " * 100_000).status_code == 413


def test_concurrent_reloads_and_requests_all_succeed(reloadable: TestClient, audio: Path) -> None:
    outcomes: list[object] = []

    def reload() -> None:
        outcomes.append(reloadable.post("/reload", json={"model_name": "medium"}).status_code)

    def recognise() -> None:
        outcomes.append("carpenter" in recognised(reloadable, audio, "sentences.flac"))

    threads = [threading.Thread(target=work) for work in (recognise, reload, recognise, reload, recognise)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["200", "200", "True", "True", "True"]
