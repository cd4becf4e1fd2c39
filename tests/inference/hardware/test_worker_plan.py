from __future__ import annotations

from pathlib import Path

import pytest

from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig, WorkerPlan, available_cpus

SMALL, LARGE = 100_000_000, 3_000_000_000


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (WorkerConfig(threads=4), WorkerPlan(4, 1, 8, low_latency_threads=4)),
        (WorkerConfig(2, 8), WorkerPlan(2, 4, 8, low_latency_threads=8)),
        (WorkerConfig(1, 2, 3), WorkerPlan(1, 2, 3)),
        (WorkerConfig(8, 2), WorkerPlan(2, 1, 8, low_latency_threads=2)),
    ],
)
def test_workers_share_the_total_number_of_threads(config: WorkerConfig, expected: WorkerPlan) -> None:
    assert config.default_plan(Device("cpu"), SMALL) == expected


def test_large_weights_are_not_copied() -> None:
    assert WorkerConfig(threads=4).default_plan(Device("cpu"), LARGE) == WorkerPlan(4, 1, 8)


def test_a_gpu_gets_one_worker() -> None:
    assert WorkerConfig().default_plan(Device("cuda"), SMALL) == WorkerPlan(1, 0, 8)
    assert WorkerConfig(2, 3, 16).default_plan(Device("cuda"), SMALL) == WorkerPlan(2, 3, 16)


@pytest.mark.parametrize(
    ("config", "layouts"),
    [
        (WorkerConfig(threads=1), [(1, 1)]),
        (WorkerConfig(threads=2), [(2, 1), (1, 2)]),
        (WorkerConfig(threads=6), [(6, 1), (3, 2), (1, 6)]),
        (WorkerConfig(count=2, threads=8), [(2, 4)]),
    ],
)
def test_every_layout_uses_all_threads(config: WorkerConfig, layouts: list[tuple[int, int]]) -> None:
    assert config.layouts() == layouts


def test_a_plan_can_be_printed() -> None:
    assert str(WorkerPlan(2, 1, 4)) == "workers 2 × 1 thread(s), batches of up to 4"
    assert str(WorkerPlan(2, 1, 4, 2)).endswith("; a single request gets 2 threads")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_quota_of_a_container_limits_the_cpus(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == min(expected, available_cpus(tmp_path / "none"))


@pytest.mark.parametrize("text", ["max 100000\n", "", "nonsense", "-1 100000"])
def test_without_a_quota_there_is_no_limit(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cpus(tmp_path) == available_cpus(tmp_path / "none")
