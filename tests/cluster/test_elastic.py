"""Replicas that come and go under load, as benchmarks/elastic.py has it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.filterwarnings("ignore")
def test_replicas_come_and_go_without_a_failed_request(audio: Path) -> None:
    from elastic import elastic

    report = elastic((audio / "short.flac").read_bytes())
    assert set(report.while_scaling) == {200}, report
    assert set(report.while_replacing) == {200}, report
