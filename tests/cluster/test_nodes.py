"""A node that is killed under load and a replica that is taken away, as the scripts in benchmarks/ have it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TESTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]


def said(script: str, *arguments: str) -> str:
    command = [sys.executable, str(TESTS.parent / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_node_that_is_killed_takes_only_what_it_had(audio: Path) -> None:
    text = said("nodes.py", str(audio / "short.flac"), "--jobs", "6")
    assert "all may be sent again" in text
    assert "jobs by how often they ended: {1: 6}" in text


def test_live_sessions_of_a_replica_that_stops_are_told_to_come_again() -> None:
    assert "closed with: {1012: 8}" in said("draining.py")
