"""A node that is killed under load, as benchmarks/nodes.py has it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TESTS


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_node_that_is_killed_takes_only_what_it_had(audio: Path) -> None:
    script = TESTS.parent / "benchmarks" / "nodes.py"
    command = [sys.executable, str(script), str(audio / "short.flac"), "--jobs", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all may be sent again" in done.stdout
    assert "jobs by how often they ended: {1: 6}" in done.stdout
