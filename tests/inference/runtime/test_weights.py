"""What happens when the memory of a fake GPU (fake_gpu.py) runs out."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from ctranslate2 import StorageView
from fake_gpu import GB, LARGE, TEXTS, FakeDevice, loader_for
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio

from whisper_server.core.errors import OutOfMemory
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.calls import Encode
from whisper_server.inference.runtime.memory_backoff import SUCCESSES_BEFORE_UPGRADE, is_out_of_memory
from whisper_server.inference.transcription.sequential import transcribe

LoadModel: TypeAlias = Callable[..., tuple[LoadedModel, FakeDevice]]


@pytest.fixture
def load(real: WhisperModel, weights: Path) -> LoadModel:
    """Load a model that takes the memory of large-v3 onto a GPU with `budget` bytes."""

    def make(budget: int, *, neighbour: int = 0, fallback: bool = False) -> tuple[LoadedModel, FakeDevice]:
        gpu = FakeDevice(real, LARGE, budget)
        loader = loader_for(gpu, fallback=fallback)
        gpu.neighbour_growth = neighbour
        return loader.load("large-v3", weights), gpu

    return make


def text_of(model: LoadedModel, file: Path, **options: object) -> str:
    whisper = model.whisper_for(RequestContext(), encoder_window="adaptive")
    return transcribe(whisper, decode_audio(str(file)), options).text


@pytest.mark.parametrize("text", TEXTS)
def test_out_of_memory_messages_of_ctranslate2_are_recognised(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_other_errors_are_not_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA failed with error an illegal memory access was encountered"))
    assert not is_out_of_memory(OutOfMemory())


def test_the_largest_model_runs_in_three_and_a_quarter_gigabytes(load: LoadModel, audio: Path) -> None:
    model, gpu = load(13 * GB // 4)
    assert gpu.opened == ["int8_float16"]
    assert "stove" in text_of(model, audio / "short.flac", beam_size=5)
    assert not model.backoff.steps
    assert gpu.peak <= gpu.budget
    model.close()


def test_loading_falls_back_to_the_next_smaller_type(load: LoadModel, audio: Path) -> None:
    """A neighbour has taken memory since the plan was made."""
    model, gpu = load(6 * GB, neighbour=3 * GB)
    assert (model.plan.compute_type, model.weights.placement.compute_type) == ("float16", "int8_float16")
    assert model.backoff.steps["compute_type"] == 1
    assert "stove" in text_of(model, audio / "short.flac")
    model.close()


def test_a_batch_that_does_not_fit_is_halved(load: LoadModel) -> None:
    model, gpu = load(24 * GB)
    gpu.neighbour = 24 * GB - LARGE.peak("float16", 2)
    features = np.zeros((1, 80, 768), np.float32)
    results = model._run(Encode(768), [StorageView.from_array(features)] * 8, otherwise_idle=False)
    assert (len(results), gpu.batches[-4:]) == (8, [2, 2, 2, 2])
    assert (model.backoff.max_batch_size, model.capacity) == (2, 2)
    assert model.weights.placement.compute_type == "float16"
    model.close()


def test_a_beam_that_does_not_fit_gets_smaller(load: LoadModel, audio: Path) -> None:
    model, gpu = load(24 * GB)
    gpu.neighbour = 24 * GB - gpu.costs.context - LARGE.weights("float16") - LARGE.work("float16", 1, 2)
    assert "stove" in text_of(model, audio / "short.flac", beam_size=5, temperature=0.0)
    assert (model.backoff.max_beam_size, dict(model.backoff.steps)) == (2, {"beam": 1})
    model.close()


def test_without_room_for_a_window_the_model_falls_back_to_a_smaller_type_and_the_cpu(
    load: LoadModel, audio: Path
) -> None:
    model, gpu = load(24 * GB, fallback=True)
    gpu.neighbour = 24 * GB - LARGE.peak("int8", 1)
    assert "stove" in text_of(model, audio / "short.flac")
    assert str(model.weights.placement) == "cuda:0, int8_float16"
    gpu.neighbour = 24 * GB
    assert "stove" in text_of(model, audio / "short.flac")
    assert str(model.weights.placement) == "cpu, int8"
    assert (model.backoff.steps["compute_type"], model.backoff.steps["cpu"]) == (1, 1)
    model.close()


@pytest.mark.full
def test_weights_are_upgraded_once_memory_is_free_again(load: LoadModel, audio: Path) -> None:
    model, gpu = load(24 * GB, fallback=True)
    gpu.neighbour = 24 * GB
    assert "stove" in text_of(model, audio / "short.flac")
    assert str(model.weights.placement) == "cpu, int8"
    gpu.neighbour = 0
    for _ in range(4 * SUCCESSES_BEFORE_UPGRADE):
        text_of(model, audio / "short.flac")
        if str(model.weights.placement) == "cuda:0, float16":
            break
    assert str(model.weights.placement) == "cuda:0, float16"
    assert model.backoff.steps["regained"] == 1
    model.close()


def test_weights_are_upgraded_even_without_room_for_both_types(load: LoadModel, audio: Path) -> None:
    model, gpu = load(6 * GB)
    gpu.neighbour = 6 * GB - LARGE.peak("int8", 1)
    text_of(model, audio / "short.flac")
    assert model.weights.placement.compute_type == "int8_float16"
    gpu.neighbour = 0
    assert model.weights.upgrade()
    assert model.weights.placement.compute_type == "float16"
    assert gpu.peak <= gpu.budget
    model.close()


def test_without_any_memory_a_request_gets_a_retry_after_header_and_a_later_one_succeeds(
    load: LoadModel, audio: Path
) -> None:
    model, gpu = load(24 * GB)
    gpu.neighbour = 24 * GB
    with pytest.raises(OutOfMemory) as caught:
        text_of(model, audio / "short.flac")
    assert (caught.value.status, "retry-after" in caught.value.headers) == (503, True)
    assert model.weights.state == "released"
    gpu.neighbour = 0
    assert "stove" in text_of(model, audio / "short.flac")
    assert str(model.weights.placement) == "cuda:0, float16"
    model.close()


def test_offloaded_weights_leave_the_gpu_and_are_loaded_again(load: LoadModel, audio: Path) -> None:
    model, gpu = load(8 * GB)
    before = text_of(model, audio / "short.flac")
    assert model.weights.offload()
    assert (model.weights.state, gpu.own) == ("parked", gpu.costs.context)
    assert text_of(model, audio / "short.flac") == before
    assert (model.weights.state, len(gpu.opened)) == ("loaded", 1)
    waiting = model.whisper_for(RequestContext())
    model.weights.offload()
    assert (waiting.model.is_multilingual, model.weights.compute_type) == (False, "float16")
    gpu.neighbour = 5 * GB
    assert text_of(model, audio / "short.flac") == before
    assert str(model.weights.placement) == "cuda:0, int8_float16"
    model.close()


@pytest.mark.full
def test_fifty_files_are_transcribed_while_a_neighbour_takes_random_amounts_of_memory(
    load: LoadModel, audio: Path
) -> None:
    """The text is the same whatever is given up meanwhile."""
    model, gpu = load(6 * GB, fallback=True)
    expected = text_of(model, audio / "short.flac")
    rng = random.Random(0)

    def take_memory() -> None:
        if rng.random() < 0.3:
            gpu.neighbour = rng.randrange(0, gpu.budget - gpu.costs.context)

    assert gpu.fallback is not None
    gpu.before_call = gpu.fallback.before_call = take_memory
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda _: text_of(model, audio / "short.flac"), range(50)))
    assert texts == [expected] * 50
    steps = model.backoff.steps
    assert min(steps["compute_type"], steps["cpu"], steps["regained"]) > 0
    model.close()


def test_each_gpu_has_its_own_workers(real: WhisperModel, weights: Path, audio: Path) -> None:
    gpu = FakeDevice(real, LARGE, 6 * GB, gpus=2)
    model = loader_for(gpu).load("large-v3", weights)
    assert model.capacity == 2 * model.plan.batch
    assert "stove" in text_of(model, audio / "short.flac")
    model.close()
