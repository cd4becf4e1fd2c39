from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.cluster.autoscaling import scale_and_replace


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_scaling_and_replacing_replicas_fail_no_request(audio: Path) -> None:
    report = scale_and_replace((audio / "short.flac").read_bytes())
    assert set(report.while_scaling) == {200}, report
    assert set(report.while_replacing) == {200}, report
