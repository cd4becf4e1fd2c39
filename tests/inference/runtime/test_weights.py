"""What happens when memory runs out, on a card that is none (fake_gpu.py)."""

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
from whisper_server.inference.runtime.batched_model import _Encode
from whisper_server.inference.runtime.memory_backoff import CONFIDENCE, is_out_of_memory
from whisper_server.inference.transcription.sequential import transcribe

Loading: TypeAlias = Callable[..., tuple[LoadedModel, FakeDevice]]


@pytest.fixture
def load(real: WhisperModel, weights: Path) -> Loading:
    """Load large-v3, as far as memory is concerned, onto a card of so many bytes."""

    def make(budget: int, *, neighbour: int = 0, fallback: bool = False) -> tuple[LoadedModel, FakeDevice]:
        card = FakeDevice(real, LARGE, budget)
        loader = loader_for(card, fallback=fallback)
        card.neighbour_growth = neighbour
        return loader.load("large-v3", weights), card

    return make


def spoken(model: LoadedModel, file: Path, **options: object) -> str:
    whisper = model.whisper_for(RequestContext(), encoder_window="adaptive")
    return transcribe(whisper, decode_audio(str(file)), options).text


@pytest.mark.parametrize("text", TEXTS)
def test_what_ctranslate2_says_of_memory_is_understood(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_other_failures_are_none_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA failed with error an illegal memory access was encountered"))
    assert not is_out_of_memory(OutOfMemory())


def test_the_largest_model_runs_in_three_and_a_quarter_gigabytes(load: Loading, audio: Path) -> None:
    model, card = load(13 * GB // 4)
    assert card.opened == ["int8_float16"]
    assert "kettle" in spoken(model, audio / "short.flac", beam_size=5)
    assert not model.batched.backoff.steps
    assert card.peak <= card.budget
    model.close()


def test_while_loading_the_next_smaller_type_is_tried(load: Loading, audio: Path) -> None:
    """The plan counted with memory that a neighbour has taken since."""
    model, card = load(6 * GB, neighbour=3 * GB)
    assert (model.plan.compute_type, model.weights.placement.compute_type) == ("float16", "int8_float16")
    assert model.batched.backoff.steps["compute_type"] == 1
    assert "kettle" in spoken(model, audio / "short.flac")
    model.close()


def test_a_batch_that_does_not_fit_is_run_in_halves(load: Loading) -> None:
    model, card = load(24 * GB)
    card.neighbour = 24 * GB - LARGE.peak("float16", 2)
    features = np.zeros((1, 80, 768), np.float32)
    results = model.batched._run(_Encode(768), [StorageView.from_array(features)] * 8, False)
    assert (len(results), card.batches[-4:]) == (8, [2, 2, 2, 2])
    assert (model.batched.backoff.batch, model.batched.capacity) == (2, 2)
    assert model.weights.placement.compute_type == "float16"
    model.close()


def test_without_room_for_the_beam_it_gets_narrower(load: Loading, audio: Path) -> None:
    model, card = load(24 * GB)
    card.neighbour = 24 * GB - card.costs.context - LARGE.weights("float16") - LARGE.work("float16", 1, 2)
    assert "kettle" in spoken(model, audio / "short.flac", beam_size=5, temperature=0.0)
    assert (model.batched.backoff.beam, dict(model.batched.backoff.steps)) == (2, {"beam": 1})
    model.close()


def test_without_room_for_a_window_a_smaller_type_and_then_the_cpu_take_over(load: Loading, audio: Path) -> None:
    model, card = load(24 * GB, fallback=True)
    card.neighbour = 24 * GB - LARGE.peak("int8", 1)
    assert "kettle" in spoken(model, audio / "short.flac")
    assert str(model.weights.placement) == "cuda:0, int8_float16"
    card.neighbour = 24 * GB
    assert "kettle" in spoken(model, audio / "short.flac")
    assert str(model.weights.placement) == "cpu, int8"
    assert (model.batched.backoff.steps["compute_type"], model.batched.backoff.steps["cpu"]) == (1, 1)
    model.close()


def test_what_was_given_up_comes_back_with_the_memory(load: Loading, audio: Path) -> None:
    model, card = load(24 * GB, fallback=True)
    card.neighbour = 24 * GB
    assert "kettle" in spoken(model, audio / "short.flac")
    assert str(model.weights.placement) == "cpu, int8"
    card.neighbour = 0
    for _ in range(4 * CONFIDENCE):
        spoken(model, audio / "short.flac")
        if str(model.weights.placement) == "cuda:0, float16":
            break
    assert str(model.weights.placement) == "cuda:0, float16"
    assert model.batched.backoff.steps["regained"] == 1
    model.close()


def test_a_better_type_comes_back_even_where_there_is_no_room_for_both(load: Loading, audio: Path) -> None:
    model, card = load(6 * GB)
    card.neighbour = 6 * GB - LARGE.peak("int8", 1)
    spoken(model, audio / "short.flac")
    assert model.weights.placement.compute_type == "int8_float16"
    card.neighbour = 0
    assert model.weights.upgrade()
    assert model.weights.placement.compute_type == "float16"
    assert card.peak <= card.budget
    model.close()


def test_without_any_room_a_request_is_told_when_to_come_again_and_a_later_one_is_served(
    load: Loading, audio: Path
) -> None:
    model, card = load(24 * GB)
    card.neighbour = 24 * GB
    with pytest.raises(OutOfMemory) as caught:
        spoken(model, audio / "short.flac")
    assert (caught.value.status, "retry-after" in caught.value.headers) == (503, True)
    assert model.weights.state == "released"
    card.neighbour = 0
    assert "kettle" in spoken(model, audio / "short.flac")
    assert str(model.weights.placement) == "cuda:0, float16"
    model.close()


def test_parked_weights_leave_the_card_and_come_back(load: Loading, audio: Path) -> None:
    model, card = load(8 * GB)
    before = spoken(model, audio / "short.flac")
    assert model.weights.offload()
    assert (model.weights.state, card.own) == ("parked", card.costs.context)
    assert spoken(model, audio / "short.flac") == before
    assert (model.weights.state, len(card.opened)) == ("loaded", 1)
    waiting = model.whisper_for(RequestContext())
    model.weights.offload()
    assert (waiting.model.is_multilingual, model.weights.compute_type) == (False, "float16")
    card.neighbour = 5 * GB
    assert spoken(model, audio / "short.flac") == before
    assert str(model.weights.placement) == "cuda:0, int8_float16"
    model.close()


def test_fifty_files_beside_a_neighbour_that_takes_what_it_wants(load: Loading, audio: Path) -> None:
    """Every file has its text, whatever had to give way meanwhile."""
    model, card = load(6 * GB, fallback=True)
    expected = spoken(model, audio / "short.flac")
    chance = random.Random(0)

    def take() -> None:
        if chance.random() < 0.3:
            card.neighbour = chance.randrange(0, card.budget - card.costs.context)

    assert card.fallback is not None
    card.before_call = card.fallback.before_call = take
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda _: spoken(model, audio / "short.flac"), range(50)))
    assert texts == [expected] * 50
    steps = model.batched.backoff.steps
    assert min(steps["compute_type"], steps["cpu"], steps["regained"]) > 0
    model.close()


def test_several_cards_have_as_many_workers(real: WhisperModel, weights: Path, audio: Path) -> None:
    card = FakeDevice(real, LARGE, 6 * GB, gpus=2)
    model = loader_for(card).load("large-v3", weights)
    assert model.batched.capacity == 2 * model.plan.batch
    assert "kettle" in spoken(model, audio / "short.flac")
    model.close()
