from __future__ import annotations

from pathlib import Path

import pytest

from whisper_server.inference.devices import Device
from whisper_server.inference.workers import Workers, available_cpus


@pytest.mark.parametrize(
    ("count", "cpu_threads", "expected"),
    [(0, 4, Workers(4, 1, 4)), (2, 8, Workers(2, 4, 4)), (1, 2, Workers(1, 2, 4)), (8, 2, Workers(2, 1, 4))],
)
def test_threads_are_the_total_and_workers_share_them(count: int, cpu_threads: int, expected: Workers) -> None:
    assert Workers.choose(Device("cpu"), count=count, cpu_threads=cpu_threads, max_batch_size=0) == expected


def test_a_card_gets_one_worker_with_large_batches() -> None:
    assert Workers.choose(Device("cuda"), count=0, cpu_threads=0, max_batch_size=0) == Workers(1, 0, 8)


def test_what_is_asked_for_is_taken() -> None:
    assert Workers.choose(Device("cuda"), count=2, cpu_threads=3, max_batch_size=16) == Workers(2, 3, 16)


def test_it_says_what_it_is() -> None:
    assert str(Workers(2, 1, 4)) == "workers 2 × 1 thread(s), batches of up to 4"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == min(expected, available_cpus(tmp_path / "none"))


@pytest.mark.parametrize("text", ["max 100000\n", "", "nonsense", "-1 100000"])
def test_no_quota_is_no_limit(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cpus(tmp_path) == available_cpus(tmp_path / "none")
