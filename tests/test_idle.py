"""The memory and the CPU time of an idle server."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from process import cpu_seconds, memory
from servers import live_server

IDLE_SECONDS = 3


@pytest.mark.measure
def test_an_idle_server_releases_its_weights_and_uses_no_cpu(audio: Path) -> None:
    """Compares it with a server that never loaded a model. One worker needs no second copy of the weights."""
    clip = (audio / "short.flac").read_bytes()
    with live_server("--lazy-load", "--no-autotune") as lazy:
        assert httpx2.get(f"{lazy.url}/health").status_code == 200
        untouched = memory("VmRSS", lazy.process.pid)
    with live_server("--idle-release", str(IDLE_SECONDS), "--workers", "1") as server:
        pid = server.process.pid
        for _ in range(2):
            files, fields = {"file": ("short.flac", clip)}, {"encoder_window": "adaptive"}
            response = httpx2.post(f"{server.url}/recognise", files=files, data=fields, timeout=60)
            assert "stove" in response.json()["transcription"]["text"]
            loaded, before = memory("VmRSS", pid), cpu_seconds(pid)
            server.wait_for("released the weights")
            assert cpu_seconds(pid) - before < 0.1 * IDLE_SECONDS
            assert memory("VmRSS", pid) < min(loaded, untouched + 60e6)
