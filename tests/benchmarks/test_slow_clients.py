from __future__ import annotations

from pathlib import Path

import pytest
from servers import live_server

from benchmarks.server.slow_clients import compare, raise_descriptor_limit


@pytest.mark.measure
def test_slow_clients_do_not_delay_others(audio: Path) -> None:
    raise_descriptor_limit()
    with live_server() as server:
        report = compare(server.url, server.process.pid, audio / "short.flac", idle=1000, slow=200)
        assert report.with_slow_clients.slowest_health < 1
        assert report.with_slow_clients.transcript < report.without.transcript + 10
        assert report.with_slow_clients.megabytes < report.without.megabytes + 100
        assert server.stop() == 0
