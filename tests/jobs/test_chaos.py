"""Servers that are killed in the middle of jobs, as benchmarks/jobs/crash_recovery.py does."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.jobs.crash_recovery import Report, run_with_crashes
from benchmarks.jobs.postgresql import programs


def survived(report: Report, jobs: int) -> bool:
    return dict(report.states) == {"succeeded": jobs} and not report.differences and not report.progress_regressions


@pytest.mark.full
def test_jobs_survive_a_server_that_is_killed(audio: Path) -> None:
    report = run_with_crashes([audio / "long.flac"], jobs=2, kills=2, seed=3)
    assert survived(report, 2), report


@pytest.mark.slow
def test_many_jobs_survive_a_server_that_is_killed_often(audio: Path) -> None:
    report = run_with_crashes([audio / "long.flac", audio / "sentences.flac"], jobs=30, kills=10)
    assert survived(report, 30), report
    assert report.restarts > 0


@pytest.mark.skipif(programs() is None, reason="needs PostgreSQL")
@pytest.mark.slow
def test_many_jobs_survive_when_one_of_two_servers_is_killed_often(audio: Path) -> None:
    report = run_with_crashes([audio / "long.flac", audio / "sentences.flac"], jobs=30, kills=10, servers=2)
    assert survived(report, 30), report
    assert report.restarts > 0
