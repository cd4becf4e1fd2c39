"""A short run of the fault harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.harness import inject_faults


@pytest.mark.full
def test_faults_lose_no_job_and_falsify_no_text(audio: Path) -> None:
    report = inject_faults(audio, minutes=0.4, seconds=1, clients=3)
    assert report.observations.violations == []
    assert sum(report.faults.values()) >= 1 and report.jobs["succeeded"] > 0
    assert not any(error.startswith("Traceback") for error in report.errors)
