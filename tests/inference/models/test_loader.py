from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import transcribe

Linked: TypeAlias = Callable[..., Path]


def test_a_loaded_model_can_be_printed(loader: ModelLoader, weights: Path) -> None:
    model = loader.load("tiny.en", weights)
    assert str(model).startswith("tiny.en (cpu, int8")
    assert model.memory >= 0


def test_the_low_latency_copy_is_loaded_later_and_gives_the_same_text(loader: ModelLoader, weights: Path) -> None:
    model = loader.load("tiny.en", weights)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    before = transcribe(model.whisper_for(RequestContext()), noise, {"temperature": 0.0}).text
    model.wait_for_background()
    assert model.weights.low_latency_model is not None
    assert model.weights.low_latency_model.num_workers == 1
    model.close()
    assert model.weights.low_latency_model is None
    model = loader.load("tiny.en", weights)
    model.wait_for_background()
    assert transcribe(model.whisper_for(RequestContext()), noise, {"temperature": 0.0}).text == before
    model.close()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_an_incomplete_directory_is_an_error(loader: ModelLoader, linked: Linked, tmp_path: Path, file: str) -> None:
    """Without its own check, faster-whisper would fetch a missing tokenizer from the hub."""
    with pytest.raises(ModelLoadFailed, match=file):
        loader.load("mine", linked(tmp_path / "mine", without=file))


def test_damaged_weights_are_an_error(loader: ModelLoader, linked: Linked, tmp_path: Path) -> None:
    directory = linked(tmp_path / "mine", without="model.bin")
    (directory / "model.bin").write_bytes(b"no weights")
    with pytest.raises(ModelLoadFailed, match="mine"):
        loader.load("mine", directory)


def test_the_number_of_mels_comes_from_the_weights(loader: ModelLoader, linked: Linked, tmp_path: Path) -> None:
    """preprocessor_config.json may be wrong, or missing, as with large-v3."""
    directory = linked(tmp_path / "mine")
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
    model = loader.load("mine", directory)
    assert model.whisper_for(RequestContext()).feature_extractor.mel_filters.shape[0] == 80
