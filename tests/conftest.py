from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faster_whisper import WhisperModel
from memoized_model import MemoizedWhisper
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels

TESTS = Path(__file__).parent
SHARED = TESTS.parents[1] / "shared"
# What Starlette's test client calls the server.
HOST = "testserver"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--url", default="", help="let the tests of the contract ask this server, not one of their own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--url"):
        for item in items:
            if {"client_with", "models"} & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.skip(reason="needs a server with other settings"))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(scope="session", autouse=True)
def no_data_of_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers that tests start keep their jobs where nobody else looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def audio() -> Path:
    """The project's own clips; `texts.json` says what was spoken."""
    return TESTS / "audio"


@pytest.fixture(scope="session")
def texts(audio: Path) -> dict[str, str]:
    loaded: dict[str, str] = json.loads((audio / "texts.json").read_text())
    return loaded


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(model="tiny.en", device="cpu", offline=True, allow_host=(HOST,))


@pytest.fixture(scope="session")
def models(settings: Settings) -> ModelManager:
    """tiny.en as users run it, in int8 on the CPU; it computes each window of the tests' clips once."""
    models = load_models(settings)
    weights = models.current.weights
    weights.whisper.model = MemoizedWhisper(weights.whisper.model)
    return models


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of tiny.en."""
    loaded = PackagedModels(PACKAGES, cache_dir=tmp_path_factory.mktemp("cache")).find("tiny.en")
    assert loaded is not None
    return loaded


@pytest.fixture(scope="session")
def real(weights: Path) -> WhisperModel:
    """What computes in a fake card."""
    return WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=2)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    if url := request.config.getoption("--url"):
        with httpx2.Client(base_url=url, timeout=120) as remote:
            yield remote
    else:
        app = create_app(request.getfixturevalue("settings"), request.getfixturevalue("models"))
        with TestClient(app) as local:
            yield local


@pytest.fixture
def client_with(models: ModelManager) -> Iterator[Callable[..., TestClient]]:
    """A client of a server with other settings and the same model."""
    with ExitStack() as opened:

        def make(**changed: Any) -> TestClient:
            settings = Settings(
                **{"model": "tiny.en", "device": "cpu", "offline": True, "allow_host": (HOST,), **changed}
            )
            return opened.enter_context(TestClient(create_app(settings, models)))

        yield make
