"""A short soak test: clients that come and go leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import live_server

from benchmarks.server.soak import soak


@pytest.mark.measure
def test_clients_that_come_and_go_leave_nothing_behind(audio: Path) -> None:
    clips = [audio / "short.flac", audio / "sentences.flac"]
    with live_server() as server:
        report = soak(server.url, server.process.pid, clips, requests=60, clients=8)
        assert set(report.outcomes) <= {"200", "disconnected"}, report.outcomes
        assert report.outcomes["200"] > 30
        middle, last = report.footprints[4], report.footprints[-1]
        assert last.descriptors <= middle.descriptors + 2  # a connection may just be closing
        assert last.threads <= middle.threads + 2
        assert last.megabytes < middle.megabytes + 150
        assert server.stop() == 0
