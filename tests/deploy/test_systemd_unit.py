from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TESTS

from whisper_server.core.settings import Settings

UNIT = TESTS.parent / "deploy" / "whisper-server.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/whisper-server/bin/whisper-server", sys.executable))
    process = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert unit.name not in process.stderr, process.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_unit_waits_for_requests_and_does_not_restart_with_wrong_settings() -> None:
    lines = UNIT.read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert int(unit["TimeoutStopSec"]) > Settings().shutdown_timeout
    assert unit["RestartPreventExitStatus"] == "2"
