from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faster_whisper import WhisperModel
from memoized_model import MemoizedWhisper, SharedResults
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels

TESTS = Path(__file__).parent
SHARED = TESTS.parents[1] / "shared"
SHARED_RESULTS = "results-of-the-model"
# The host name that Starlette's test client uses.
HOST = "testserver"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--url", default="", help="run the tests of the HTTP API against this server")
    parser.addoption("--latest-clients", action="store_true", help="test the latest versions of clients")
    parser.addoption("--require", default="", help="programs such as chromium,ray: fail tests that would be skipped")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let idle threads of OpenMP sleep instead of spin: the tests' processes share the CPUs."""
    os.environ["OMP_WAIT_POLICY"] = "passive"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """At the end of the whole run, not of one worker."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if "PYTEST_XDIST_WORKER" not in os.environ and factory is not None:
        shutil.rmtree(factory.getbasetemp() / SHARED_RESULTS, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--url"):
        for item in items:
            if {"client_with", "models"} & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.skip(reason="needs a server with other settings"))


def pytest_collection_finish() -> None:
    """Exempt everything imported so far from garbage collection, which faster-whisper runs for each decoded file."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if any(name in reason.lower() for name in item.config.getoption("--require").lower().split(",") if name):
            report.outcome, report.longrepr = "failed", f"required, but {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def no_data_of_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the jobs of servers that tests start out of the user's data directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def audio() -> Path:
    """The project's own clips; `texts.json` has their transcripts."""
    return TESTS / "audio"


@pytest.fixture(scope="session")
def texts(audio: Path) -> dict[str, str]:
    loaded: dict[str, str] = json.loads((audio / "texts.json").read_text())
    return loaded


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(model="tiny.en", device="cpu", offline=True, allow_host=(HOST,))


@pytest.fixture(scope="session")
def shared_results(tmp_path_factory: pytest.TempPathFactory) -> SharedResults | None:
    """The results that all workers of pytest-xdist share; pytest_sessionfinish() removes them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    return SharedResults(tmp_path_factory.getbasetemp().parent / SHARED_RESULTS)


@pytest.fixture(scope="session")
def models(settings: Settings, shared_results: SharedResults | None) -> Iterator[ModelManager]:
    """tiny.en as users run it, in int8 on the CPU; it computes each window of the tests' clips once."""
    models = load_models(settings)
    models.current.wait_for_background()
    memoize(models, shared_results)
    yield models
    models.close()


def memoize(models: ModelManager, shared: SharedResults | None) -> None:
    """Wrap the current model, unless it is wrapped; weights that were loaded again are not."""
    models.current.ensure_loaded()
    models.current.wait_for_background()
    weights = models.current.weights
    if not isinstance(weights.whisper.model, MemoizedWhisper):
        weights.low_latency_model = weights.whisper.model = MemoizedWhisper(weights.whisper.model, shared)


@pytest.fixture
def always_computing(models: ModelManager, shared_results: SharedResults | None) -> Iterator[None]:
    """Let the model compute every window, for tests that depend on the time this takes."""
    memoize(models, shared_results)
    model = models.current.weights.whisper.model
    model.enabled = False
    yield
    model.enabled = True


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of tiny.en."""
    loaded = PackagedModels(PACKAGES, cache_dir=tmp_path_factory.mktemp("cache")).find("tiny.en")
    assert loaded is not None
    return loaded


@pytest.fixture(scope="session")
def real(weights: Path) -> WhisperModel:
    """The model that computes for a fake GPU."""
    return WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=2)


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    if url := request.config.getoption("--url"):
        with httpx2.Client(base_url=url, timeout=120) as remote:
            yield remote
    else:
        models = request.getfixturevalue("models")
        memoize(models, request.getfixturevalue("shared_results"))
        app = create_app(request.getfixturevalue("settings"), models)
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
