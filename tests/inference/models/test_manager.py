from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from faster_whisper.audio import decode_audio

from whisper_server.core.errors import ModelIsServed, ModelNotFound, Overloaded
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import transcribe


@pytest.fixture
def manager(tmp_path: Path, loader: ModelLoader) -> ModelManager:
    packages = PackagedModels(PACKAGES, cache_dir=tmp_path)
    return ModelManager(ModelResolver(models_dir=tmp_path, packages=packages, offline=True), loader)


def test_a_replaced_model_is_closed_after_its_last_lease(manager: ModelManager) -> None:
    manager.load("tiny.en")
    with manager.lease() as old:
        reference = weakref.ref(old.weights.model)
        assert manager.reload("tiny.en") is manager.current
        assert old is not manager.current
        assert old.batcher.healthy
        assert transcribe(old.whisper_for(RequestContext()), np.zeros(1600, np.float32), {}).language == "en"
    assert not old.batcher.healthy
    del old
    gc.collect()
    assert reference() is None


def test_a_failed_reload_keeps_the_old_model(manager: ModelManager) -> None:
    old = manager.load("tiny.en")
    with pytest.raises(ModelNotFound):
        manager.reload("nosuch")
    assert manager.current is old


@pytest.fixture
def on_demand(tmp_path: Path, loader: ModelLoader, linked: Callable[..., Path]) -> Iterator[ModelManager]:
    """Return a manager with tiny.en loaded, which may load one of two other models."""
    for name in ("mine", "yours"):
        linked(tmp_path / name)
    resolver = ModelResolver(models_dir=tmp_path, packages=PackagedModels(PACKAGES, cache_dir=tmp_path), offline=True)
    manager = ModelManager(resolver, loader, on_demand=1)
    manager.load("tiny.en")
    yield manager
    manager.close()


def test_without_models_on_demand_another_name_is_not_found(manager: ModelManager) -> None:
    manager.load("tiny.en")
    with pytest.raises(ModelNotFound, match="--on-demand-models"), manager.lease("base"):
        pass
    with manager.lease("whisper-1") as model:
        assert model is manager.current


def test_a_directory_in_models_dir_is_no_spelling_of_the_served_model(
    manager: ModelManager, tmp_path: Path, linked: Callable[..., Path]
) -> None:
    manager.set_startup_model("tiny.en")
    manager.check("whisper-mine")
    linked(tmp_path / "whisper-mine")
    with pytest.raises(ModelNotFound, match="this server has tiny.en"):
        manager.check("whisper-mine")


def test_a_model_on_demand_may_be_named_in_any_spelling(on_demand: ModelManager, tmp_path: Path) -> None:
    names = ("whisper-tiny.en", "gpt-live-transcribe", "openai/whisper-base", "turbo", "whisper-mine")
    assert [on_demand.id_for(name) for name in names] == ["tiny.en", "tiny.en", "base", "turbo", "tiny.en"]
    (tmp_path / "whisper-mine").symlink_to(tmp_path / "mine")
    assert on_demand.id_for("whisper-mine") == "whisper-mine"
    with on_demand.lease("whisper-mine") as model:
        assert model.id == "whisper-mine"
    assert on_demand.find("whisper-mine") is model


def test_a_model_in_use_is_not_evicted(on_demand: ModelManager) -> None:
    with on_demand.lease("mine"), pytest.raises(Overloaded, match="in use"), on_demand.lease("yours"):
        pass
    with on_demand.lease("yours"):
        assert [model.name for model in on_demand.loaded] == ["tiny.en", "yours"]


def test_an_unloaded_model_is_closed_after_its_last_lease(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as model:
        assert on_demand.unload("mine") == "mine"
        assert on_demand.loaded == [on_demand.current]
        assert transcribe(model.whisper_for(RequestContext()), np.zeros(1600, np.float32), {}).language == "en"
    assert not model.batcher.healthy


def test_the_current_model_cannot_be_unloaded(on_demand: ModelManager) -> None:
    with pytest.raises(ModelIsServed):
        on_demand.unload("tiny.en")


def test_a_reload_replaces_the_same_model_loaded_on_demand(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as old:
        on_demand.reload("mine")
        assert on_demand.loaded == [on_demand.current]
    assert not old.batcher.healthy


def test_a_missing_model_evicts_no_other(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as mine:
        pass
    with pytest.raises(ModelNotFound), on_demand.lease("nosuch"):
        pass
    assert on_demand.loaded == [on_demand.current, mine]


@pytest.mark.slow
def test_twenty_reloads_under_steady_load_fail_no_request(tmp_path: Path, audio: Path) -> None:
    """Every fourth names a missing model."""
    tuner = Tuner(Device("cpu"), "int8", WorkerConfig(1, 2, 4), cache=Path("unused"), measure=False)
    packages = PackagedModels(PACKAGES, cache_dir=tmp_path)
    manager = ModelManager(ModelResolver(models_dir=tmp_path, packages=packages, offline=True), ModelLoader(tuner))
    manager.load("tiny.en")
    samples = decode_audio(str(audio / "short.flac"))
    stop = Event()

    def transcribe_repeatedly() -> list[str]:
        texts = []
        while not stop.is_set():
            with manager.lease() as model:
                whisper = model.whisper_for(RequestContext(), encoder_window="adaptive")
                texts.append(transcribe(whisper, samples, {"language": "en", "temperature": 0.0}).text)
        return texts

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(transcribe_repeatedly) for _ in range(2)]
        try:
            for name in ["base", "nosuch", "tiny.en", "base"] * 5:
                before = manager.current
                if name == "nosuch":
                    with pytest.raises(ModelNotFound):
                        manager.reload(name)
                    assert manager.current is before
                else:
                    assert manager.reload(name) is manager.current is not before
        finally:
            stop.set()
        texts = [text for client in clients for text in client.result()]
    assert len(texts) > 20
    assert all("kettle" in text for text in texts)
    manager.close()
