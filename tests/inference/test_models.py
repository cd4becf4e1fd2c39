from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from faster_whisper.audio import decode_audio

from whisper_server.errors import ModelIsServed, ModelLoadFailed, ModelNotFound, Overloaded
from whisper_server.inference.catalogue import PACKAGES
from whisper_server.inference.devices import Device
from whisper_server.inference.models import ModelLoader, ModelManager
from whisper_server.inference.packages import PackagedModels
from whisper_server.inference.resolver import ModelResolver
from whisper_server.inference.tickets import Ticket
from whisper_server.inference.transcription import transcribe
from whisper_server.inference.tuning import Tuner
from whisper_server.inference.workers import Wanted


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = PackagedModels(PACKAGES, cache_dir=tmp_path_factory.mktemp("cache")).find("tiny.en")
    assert found is not None
    return found


@pytest.fixture
def loader() -> ModelLoader:
    wanted = Wanted(count=2, threads=2, max_batch_size=4)
    return ModelLoader(Tuner(Device("cpu"), "int8", wanted, cache=Path("unused"), measure=False))


@pytest.fixture
def manager(tmp_path: Path, loader: ModelLoader) -> ModelManager:
    packages = PackagedModels(PACKAGES, cache_dir=tmp_path)
    return ModelManager(ModelResolver(models_dir=tmp_path, packages=packages, offline=True), loader)


def linked(weights: Path, directory: Path, *, without: str = "") -> Path:
    directory.mkdir()
    for file in weights.iterdir():
        if file.name != without:
            (directory / file.name).symlink_to(file)
    return directory


def test_a_loaded_model_says_what_it_is(loader: ModelLoader, weights: Path) -> None:
    model = loader.load("tiny.en", weights)
    assert str(model).startswith("tiny.en (cpu, int8")
    assert model.memory >= 0


def test_a_copy_for_a_lone_caller_comes_later_and_gives_the_same_text(loader: ModelLoader, weights: Path) -> None:
    model = loader.load("tiny.en", weights)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    before = transcribe(model.whisper, noise, {"temperature": 0.0}).text
    model.wait_until_improved()
    assert model.batched.lone is not None
    assert model.batched.lone.num_workers == 1
    model.close()
    assert model.batched.lone is None
    model = loader.load("tiny.en", weights)
    model.wait_until_improved()
    assert transcribe(model.whisper_for(Ticket()), noise, {"temperature": 0.0}).text == before
    model.close()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_an_incomplete_directory_is_named(loader: ModelLoader, weights: Path, tmp_path: Path, file: str) -> None:
    """Without its own check, faster-whisper would fetch a missing tokenizer from the hub."""
    with pytest.raises(ModelLoadFailed, match=file):
        loader.load("mine", linked(weights, tmp_path / "mine", without=file))


def test_weights_that_are_none_are_an_error(loader: ModelLoader, weights: Path, tmp_path: Path) -> None:
    directory = linked(weights, tmp_path / "mine", without="model.bin")
    (directory / "model.bin").write_bytes(b"no weights")
    with pytest.raises(ModelLoadFailed, match="mine"):
        loader.load("mine", directory)


def test_the_mels_are_the_models_own(loader: ModelLoader, weights: Path, tmp_path: Path) -> None:
    """A preprocessor_config.json that is wrong, or absent beside large-v3, must not decide."""
    directory = linked(weights, tmp_path / "mine")
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
    model = loader.load("mine", directory)
    assert model.whisper_for(Ticket()).feature_extractor.mel_filters.shape[0] == 80


def test_the_old_model_goes_when_its_last_user_lets_go(manager: ModelManager) -> None:
    manager.load("tiny.en")
    with manager.lease() as old:
        gone = weakref.ref(old.batched.model)
        assert manager.reload("tiny.en") is manager.current
        assert old is not manager.current
        assert old.batched.healthy
        assert transcribe(old.whisper_for(Ticket()), np.zeros(1600, np.float32), {}).language == "en"
    assert not old.batched.healthy
    del old
    gc.collect()
    assert gone() is None


def test_a_failed_reload_leaves_the_old_model(manager: ModelManager) -> None:
    old = manager.load("tiny.en")
    with pytest.raises(ModelNotFound):
        manager.reload("nosuch")
    assert manager.current is old


@pytest.fixture
def on_demand(tmp_path: Path, loader: ModelLoader, weights: Path) -> Iterator[ModelManager]:
    """Has tiny.en, room for one model more, and two that it may load."""
    for name in ("mine", "yours"):
        linked(weights, tmp_path / name)
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


def test_a_model_in_use_is_not_unloaded_for_another(on_demand: ModelManager) -> None:
    with on_demand.lease("mine"), pytest.raises(Overloaded, match="in use"), on_demand.lease("yours"):
        pass
    with on_demand.lease("yours"):
        assert [model.name for model in on_demand.loaded] == ["tiny.en", "yours"]


def test_a_deleted_model_ends_with_its_last_lease(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as model:
        assert on_demand.unload("mine") == "mine"
        assert on_demand.loaded == [on_demand.current]
        assert transcribe(model.whisper_for(Ticket()), np.zeros(1600, np.float32), {}).language == "en"
    assert not model.batched.healthy


def test_the_current_model_cannot_be_unloaded(on_demand: ModelManager) -> None:
    with pytest.raises(ModelIsServed):
        on_demand.unload("tiny.en")


def test_a_reload_takes_the_place_of_what_was_loaded_on_demand(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as old:
        on_demand.reload("mine")
        assert on_demand.loaded == [on_demand.current]
    assert not old.batched.healthy


def test_a_model_that_is_not_there_drives_no_other_out(on_demand: ModelManager) -> None:
    with on_demand.lease("mine") as mine:
        pass
    with pytest.raises(ModelNotFound), on_demand.lease("nosuch"):
        pass
    assert on_demand.loaded == [on_demand.current, mine]


@pytest.mark.slow
def test_twenty_reloads_under_steady_load_fail_no_request(tmp_path: Path, audio: Path) -> None:
    """Every fourth is of a name that is not there."""
    tuner = Tuner(Device("cpu"), "int8", Wanted(1, 2, 4), cache=Path("unused"), measure=False)
    packages = PackagedModels(PACKAGES, cache_dir=tmp_path)
    manager = ModelManager(ModelResolver(models_dir=tmp_path, packages=packages, offline=True), ModelLoader(tuner))
    manager.load("tiny.en")
    samples = decode_audio(str(audio / "short.flac"))
    over = Event()

    def clients() -> list[str]:
        texts = []
        while not over.is_set():
            with manager.lease() as model:
                whisper = model.whisper_for(Ticket(), encoder_window="adaptive")
                texts.append(transcribe(whisper, samples, {"language": "en", "temperature": 0.0}).text)
        return texts

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(clients) for _ in range(2)]
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
            over.set()
        texts = [text for client in working for text in client.result()]
    assert len(texts) > 20
    assert all("kettle" in text for text in texts)
    manager.close()
