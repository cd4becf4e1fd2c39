"""A node that is killed and a replica that is removed, as the benchmarks do it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TESTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray"),
]


def run_benchmark(name: str, *arguments: str) -> str:
    """Return what it prints. It needs a process of its own, as a process can connect to one Ray cluster only."""
    command = [sys.executable, "-m", f"benchmarks.cluster.{name}", *arguments]
    process = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def test_a_killed_node_fails_only_its_own_requests(audio: Path) -> None:
    output = run_benchmark("node_failure", str(audio / "short.flac"), "--jobs", "6")
    assert "all can be retried" in output
    assert "jobs by the number of times that they ended: {1: 6}" in output


def test_live_sessions_of_a_stopping_replica_are_closed_with_1012() -> None:
    assert "close codes of the sessions: {1012: 8}" in run_benchmark("draining")
