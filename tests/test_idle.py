"""A server that nobody asks: what it holds, and what it does."""

from __future__ import annotations

from pathlib import Path

import httpx2
from process import cpu_seconds, memory
from servers import live_server

IDLE = 3


def test_idle_weights_leave_and_an_idle_server_does_nothing(audio: Path) -> None:
    """It is compared with a server that has never loaded a model. One worker has no second copy to load at leisure."""
    clip = (audio / "short.flac").read_bytes()
    with live_server("--lazy-load", "--no-autotune") as lazy:
        assert httpx2.get(f"{lazy.url}/health").status_code == 200
        untouched = memory("VmRSS", lazy.process.pid)
    with live_server("--idle-release", str(IDLE), "--workers", "1") as server:
        pid = server.process.pid
        for _ in range(2):
            files, fields = {"file": ("short.flac", clip)}, {"encoder_window": "adaptive"}
            answer = httpx2.post(f"{server.url}/recognise", files=files, data=fields, timeout=60)
            assert "kettle" in answer.json()["transcription"]["text"]
            loaded, before = memory("VmRSS", pid), cpu_seconds(pid)
            server.wait_for("released the weights")
            assert cpu_seconds(pid) - before < 0.1 * IDLE
            assert memory("VmRSS", pid) < min(loaded, untouched + 60e6)
