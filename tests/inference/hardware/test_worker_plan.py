from __future__ import annotations

from pathlib import Path

import pytest

from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import Wanted, Workers, available_cpus

SMALL, LARGE = 100_000_000, 3_000_000_000


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(threads=4), Workers(4, 1, 8, lone_threads=4)),
        (Wanted(2, 8), Workers(2, 4, 8, lone_threads=8)),
        (Wanted(1, 2, 3), Workers(1, 2, 3)),
        (Wanted(8, 2), Workers(2, 1, 8, lone_threads=2)),
    ],
)
def test_threads_are_the_total_and_workers_share_them(wanted: Wanted, expected: Workers) -> None:
    assert wanted.presumed(Device("cpu"), SMALL) == expected


def test_large_weights_are_not_held_twice() -> None:
    assert Wanted(threads=4).presumed(Device("cpu"), LARGE) == Workers(4, 1, 8)


def test_a_card_gets_one_worker() -> None:
    assert Wanted().presumed(Device("cuda"), SMALL) == Workers(1, 0, 8)
    assert Wanted(2, 3, 16).presumed(Device("cuda"), SMALL) == Workers(2, 3, 16)


@pytest.mark.parametrize(
    ("wanted", "spreads"),
    [
        (Wanted(threads=1), [(1, 1)]),
        (Wanted(threads=2), [(2, 1), (1, 2)]),
        (Wanted(threads=6), [(6, 1), (3, 2), (1, 6)]),
        (Wanted(count=2, threads=8), [(2, 4)]),
    ],
)
def test_spreads_share_the_threads(wanted: Wanted, spreads: list[tuple[int, int]]) -> None:
    assert wanted.spreads() == spreads


def test_it_says_what_it_is() -> None:
    assert str(Workers(2, 1, 4)) == "workers 2 × 1 thread(s), batches of up to 4"
    assert str(Workers(2, 1, 4, 2)).endswith("; a lone caller gets 2 threads")


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
