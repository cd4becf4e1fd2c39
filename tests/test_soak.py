"""The short form of benchmarks/soak.py: clients that come and go leave nothing behind."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import TESTS
from servers import live_server

ROOT = TESTS.parent


def soak() -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("soak", ROOT / "benchmarks" / "soak.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    run: Callable[..., Any] = module.soak
    return run


def test_clients_that_come_and_go_leave_nothing_behind(audio: Path) -> None:
    clips = [audio / "short.flac", audio / "sentences.flac"]
    with live_server() as server:
        report = soak()(server.url, server.process.pid, clips, requests=60, clients=8)
        assert set(report.outcomes) <= {"200", "aborted"}, report.outcomes
        assert report.outcomes["200"] > 30
        middle, last = report.footprints[4], report.footprints[-1]
        assert last.descriptors <= middle.descriptors + 2  # a connection that is just being closed
        assert last.threads <= middle.threads + 2
        assert last.megabytes < middle.megabytes + 150
        assert server.stop() == 0
