from __future__ import annotations

import logging
from pathlib import Path

import pytest

from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig, WorkerPlan


def tuner(cache: Path, wanted: WorkerConfig | None = None, *, device: str = "cpu", measure: bool = True) -> Tuner:
    return Tuner(Device(device), "int8", wanted or WorkerConfig(threads=2), cache=cache, measure=measure)


def test_a_model_is_measured_once(weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cache = tmp_path / "cache" / "workers.json"
    chosen = tuner(cache).workers_for(weights)
    assert (chosen.count, chosen.threads) in [(2, 1), (1, 2)]
    assert chosen.max_batch_size in (1, 4, 8)
    assert chosen.low_latency_threads in (0, 2)
    assert "2 × 1: " in caplog.text
    assert "1 × 2: " in caplog.text
    caplog.clear()
    assert tuner(cache).workers_for(weights) == chosen
    assert "measured" not in caplog.text


def test_what_the_operator_wants_stands(weights: Path, tmp_path: Path) -> None:
    chosen = tuner(tmp_path / "workers.json", WorkerConfig(1, 2, 3)).workers_for(weights)
    assert chosen == WorkerPlan(1, 2, 3)


@pytest.mark.parametrize("content", ["", "[]", "null", "nonsense"])
def test_a_damaged_memory_is_replaced(weights: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "workers.json"
    cache.write_text(content)
    chosen = tuner(cache).workers_for(weights)
    assert tuner(cache).workers_for(weights) == chosen
    assert cache.read_text() != content


def test_a_place_that_cannot_be_written_is_said(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert tuner(tmp_path / "file" / "workers.json").workers_for(weights).count > 0
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "device", "measure"),
    [(WorkerConfig(threads=1), "cpu", True), (WorkerConfig(), "cuda", True), (WorkerConfig(threads=2), "cpu", False)],
)
def test_nothing_is_measured_where_there_is_no_choice(
    weights: Path, tmp_path: Path, wanted: WorkerConfig, device: str, measure: bool
) -> None:
    cache = tmp_path / "workers.json"
    chosen = tuner(cache, wanted, device=device, measure=measure).workers_for(weights)
    assert chosen == wanted.default_plan(Device(device), (weights / "model.bin").stat().st_size)
    assert not cache.exists()


def test_large_weights_are_not_loaded_again_and_again(tmp_path: Path) -> None:
    with (tmp_path / "model.bin").open("wb") as file:
        file.truncate(3_000_000_000)
    assert tuner(tmp_path / "workers.json").workers_for(tmp_path) == WorkerPlan(2, 1, 8)
