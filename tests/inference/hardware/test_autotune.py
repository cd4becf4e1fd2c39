from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig, WorkerPlan

# Leaves nothing to compare, so its measurement is short.
ONE_LAYOUT = WorkerConfig(1, 2, 3)


def tuner(cache: Path, config: WorkerConfig | None = None, *, device: str = "cpu", measure: bool = True) -> Tuner:
    return Tuner(Device(device), "int8", config or WorkerConfig(threads=2), cache=cache, measure=measure)


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


def test_the_operators_settings_are_kept(weights: Path, tmp_path: Path) -> None:
    chosen = tuner(tmp_path / "workers.json", ONE_LAYOUT).workers_for(weights)
    assert chosen == WorkerPlan(1, 2, 3)


@pytest.mark.parametrize("content", ["", "[]", "null", "nonsense"])
def test_a_damaged_cache_is_replaced(weights: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "workers.json"
    cache.write_text(content)
    chosen = tuner(cache, ONE_LAYOUT).workers_for(weights)
    assert tuner(cache, ONE_LAYOUT).workers_for(weights) == chosen
    assert cache.read_text() != content


def test_a_result_in_the_format_of_earlier_versions_is_used(weights: Path, tmp_path: Path) -> None:
    cache = tmp_path / "workers.json"
    tuner(cache, ONE_LAYOUT).workers_for(weights)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: {"count": 7, "threads": 6, "max_batch_size": 5, "lone_threads": 4}}))
    assert tuner(cache, ONE_LAYOUT).workers_for(weights) == WorkerPlan(7, 6, 5, low_latency_threads=4)


def test_a_cache_that_cannot_be_written_is_logged(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert tuner(tmp_path / "file" / "workers.json", ONE_LAYOUT).workers_for(weights).count > 0
    assert "cannot be saved" in caplog.text


@pytest.mark.parametrize(
    ("config", "device", "measure"),
    [(WorkerConfig(threads=1), "cpu", True), (WorkerConfig(), "cuda", True), (WorkerConfig(threads=2), "cpu", False)],
)
def test_nothing_is_measured_without_a_choice(
    weights: Path, tmp_path: Path, config: WorkerConfig, device: str, measure: bool
) -> None:
    cache = tmp_path / "workers.json"
    chosen = tuner(cache, config, device=device, measure=measure).workers_for(weights)
    assert chosen == config.default_plan(Device(device), (weights / "model.bin").stat().st_size)
    assert not cache.exists()


def test_large_weights_are_not_loaded_for_measurements(tmp_path: Path) -> None:
    with (tmp_path / "model.bin").open("wb") as file:
        file.truncate(3_000_000_000)
    assert tuner(tmp_path / "workers.json").workers_for(tmp_path) == WorkerPlan(2, 1, 8)
