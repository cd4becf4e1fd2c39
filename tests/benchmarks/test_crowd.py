"""A crowd at the door keeps nobody out."""

from __future__ import annotations

from pathlib import Path

from crowd import crowd, raise_descriptor_limit
from servers import live_server


def test_a_crowd_keeps_nobody_out(audio: Path) -> None:
    raise_descriptor_limit()
    with live_server() as server:
        report = crowd(server.url, server.process.pid, audio / "short.flac", idle=1000, slow=200)
        assert report.crowded.slowest_health < 1
        assert report.crowded.transcript < report.alone.transcript + 10
        assert report.crowded.megabytes < report.alone.megabytes + 100
        assert server.stop() == 0
