from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from inference.stand_in_hub import COMMIT, FILES, REPOSITORY, StandInHub, serving_endless_header, serving_hub, use_hub

from whisper_server.core.errors import ModelNotFound, ModelUnavailable
from whisper_server.inference.models import hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def served(cache: Path) -> Iterator[StandInHub]:
    with serving_hub() as served, use_hub(served.url, cache):
        yield served


def test_download_puts_the_model_into_the_cache(served: StandInHub, cache: Path) -> None:
    path = hub.download(REPOSITORY)
    assert cache in path.parents
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        name: body for name, body in FILES.items() if name != "README.md"
    }


def test_files_that_no_model_needs_are_not_downloaded(served: StandInHub) -> None:
    hub.download(REPOSITORY)
    assert any("model.bin" in request for request in served.requests)
    assert not any("README" in request for request in served.requests)


def test_a_downloaded_repository_is_found_in_the_cache_without_a_request(served: StandInHub) -> None:
    path = hub.download(REPOSITORY)
    served.requests.clear()
    assert hub.cached(REPOSITORY) == path
    assert served.requests == []


def test_looking_into_an_empty_cache_sends_no_request(served: StandInHub) -> None:
    assert hub.cached(REPOSITORY) is None
    assert served.requests == []


def test_an_interrupted_download_is_not_cached_and_can_be_completed(served: StandInHub) -> None:
    weights = f"/{REPOSITORY}/resolve/{COMMIT}/model.bin"
    served.fail(weights, 403)
    with pytest.raises(ModelUnavailable):
        hub.download(REPOSITORY)
    assert hub.cached(REPOSITORY) is None
    served.failures.clear()
    assert (hub.download(REPOSITORY) / "model.bin").read_bytes() == FILES["model.bin"]


def test_a_snapshot_without_weights_is_not_cached_and_can_be_completed(served: StandInHub, cache: Path) -> None:
    """An interrupted download leaves one, or a program that needs only the configuration."""
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "config.json").write_bytes(FILES["config.json"])
    assert hub.cached(REPOSITORY) is None
    assert (hub.download(REPOSITORY) / "model.bin").is_file()


def test_an_unknown_repository_is_not_found(served: StandInHub) -> None:
    with pytest.raises(ModelNotFound, match=r"no repository 'stand-in/other'.*HF_TOKEN"):
        hub.download("stand-in/other")


def test_a_gated_repository_is_not_found(served: StandInHub) -> None:
    served.fail(f"/api/models/{REPOSITORY}", 403, "GatedRepo")
    with pytest.raises(ModelNotFound, match="HF_TOKEN"):
        hub.download(REPOSITORY)


@pytest.mark.parametrize("name", ["stand-in/a..b", "stand-in/a--b", "stand-in/whisper.git"])
def test_an_invalid_repository_name_is_not_found_without_a_request(name: str, served: StandInHub) -> None:
    assert hub.cached(name) is None
    with pytest.raises(ModelNotFound):
        hub.download(name)
    assert served.requests == []


def test_a_broken_hub_is_unavailable(served: StandInHub) -> None:
    served.fail(f"/api/models/{REPOSITORY}", 500)
    with pytest.raises(ModelUnavailable, match=r"(?s)did not deliver 'stand-in/whisper'.*500.*check the connection"):
        hub.download(REPOSITORY)


def test_a_refused_connection_is_reported_at_once(cache: Path) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with use_hub(_url(bound), cache), pytest.raises(ModelUnavailable, match="check the connection"):
            hub.download(REPOSITORY)
    assert time.monotonic() - started < hub.TIMEOUT_SECONDS


def test_a_silent_hub_is_unavailable_after_the_timeout(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, use_hub(_url(silent), cache):
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match="check the connection"):
            hub.download(REPOSITORY)
        assert time.monotonic() - started < 3


def test_a_hub_whose_response_never_ends_is_unavailable_after_the_timeout(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.3)
    with serving_endless_header() as url, use_hub(url, cache):
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match="check the connection"):
            hub.download(REPOSITORY)
        assert time.monotonic() - started < 3


def test_the_timeout_is_below_ten_seconds() -> None:
    assert hub.TIMEOUT_SECONDS < 10


@pytest.mark.parametrize("flags", [["--offline"], []], ids=["offline", "online"])
def test_the_server_contacts_the_hub_unless_it_is_offline(flags: list[str], tmp_path: Path) -> None:
    with serving_hub() as served:
        run = subprocess.run(
            [sys.executable, "-m", "whisper_server", "--port", "0", "--model", REPOSITORY, *flags],
            env={**os.environ, "HOME": str(tmp_path), "HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "hf")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == (2 if flags else 1), run.stderr
    assert bool(served.requests) is not bool(flags)
    assert f"model '{REPOSITORY}' {'not found' if flags else 'could not be loaded'}" in run.stderr


def _url(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
