"""Jobs on servers that are killed repeatedly, compared with the same jobs on a server that is not.

    python -m benchmarks.jobs.crash_recovery tests/audio/long.flac tests/audio/sentences.flac --jobs 30 --kills 10
    python -m benchmarks.jobs.crash_recovery tests/audio/long.flac --jobs 30 --kills 10 --servers 2

Several servers share one data directory and one PostgreSQL, which the benchmark starts.
"""

from __future__ import annotations

import json
import logging
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs.job_client import job_events, job_result, list_jobs, submit_job
from benchmarks.jobs.postgresql import running_postgresql
from benchmarks.report import argument_parser
from benchmarks.server_process import UNTUNED_CPU, ServerProcess

logger = logging.getLogger(__name__)

# Matrices of other shapes are multiplied in another order of additions, and shapes depend on what shares a batch.
_SCORE_TOLERANCE = 2e-3
# Copies of the model with other threads and batches differ in the last bits, so a tie may be decided differently.
_TIME_TOLERANCE = 0.1
_SCORES = ("avg_logprob", "no_speech_prob")

# One set of options for each way in which windows are decoded.
OPTIONS: tuple[dict[str, str], ...] = ({}, {"word_timestamps": "true"}, {"mode": "batched"}, {"beam_size": "3"})

Submission = tuple[Path, dict[str, str]]


@dataclass
class Report:
    states: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    restarts: int = 0
    differences: list[str] = field(default_factory=list)
    progress_regressions: int = 0
    seconds: float = 0.0


class ProgressMonitor:
    """Counts in the report how often the progress of a job went back."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._progress: dict[str, float] = {}

    def poll(self, url: str) -> list[dict[str, Any]]:
        """Return all jobs."""
        jobs = list_jobs(url)
        for job in jobs:
            self._report.progress_regressions += job["progress"] < self._progress.get(job["id"], 0.0)
            self._progress[job["id"]] = job["progress"]
        return jobs


def run_with_crashes(
    files: Sequence[Path], *, jobs: int, kills: int, model: str = "tiny.en", servers: int = 1, seed: int = 1
) -> Report:
    """Run the jobs undisturbed, then on servers that are killed meanwhile, and compare the results."""
    report = Report()
    submissions = [(files[number % len(files)], OPTIONS[number % len(OPTIONS)]) for number in range(jobs)]
    with ExitStack() as stack:
        flags = [*UNTUNED_CPU, "--log-level", "info", "--model", model, "--compute-type", "float32"]
        expected = _undisturbed([*flags, "--data-dir", stack.enter_context(tempfile.TemporaryDirectory())], submissions)
        flags += ["--data-dir", stack.enter_context(tempfile.TemporaryDirectory())]
        if servers > 1:
            flags += ["--database-url", stack.enter_context(running_postgresql()).url]
        group = [stack.enter_context(ServerProcess(*flags)) for _ in range(servers)]
        started = time.monotonic()
        ids = [submit_job(group[0].url, *submission) for submission in submissions]
        logger.info("%d jobs are queued", len(ids))
        monitor = ProgressMonitor(report)
        _kill_servers(group, kills, monitor, report, random.Random(seed))
        url = group[-1].url
        finished = _wait_for_all(url, monitor)
        report.seconds = time.monotonic() - started
        report.states.update(job["state"] for job in finished)
        report.restarts = sum(job["restarts"] for job in finished)
        assert sorted(job["id"] for job in finished) == sorted(ids)
        for id, submission in zip(ids, submissions, strict=True):
            report.differences += _differences(url, id, expected[_key(submission)])
    return report


def _undisturbed(flags: Sequence[str], submissions: Sequence[Submission]) -> dict[str, Any]:
    """The expected result of each kind of job."""
    with ServerProcess(*flags) as server:
        ids = {_key(submission): submit_job(server.url, *submission) for submission in submissions}
        for id in ids.values():
            job_events(server.url, id)
        return {key: job_result(server.url, id) for key, id in ids.items()}


def _kill_servers(
    group: Sequence[ServerProcess], kills: int, monitor: ProgressMonitor, report: Report, generator: random.Random
) -> None:
    for _ in range(kills):
        server = generator.choice(group)
        deadline = time.monotonic() + generator.uniform(0.5, 6.0)
        while time.monotonic() < deadline:
            monitor.poll(server.url)
            time.sleep(0.25)
        server.stop(signal.SIGKILL)
        report.kills += 1
        server.start()
        logger.info("kill %d of %d", report.kills, kills)


def _wait_for_all(url: str, monitor: ProgressMonitor) -> list[dict[str, Any]]:
    jobs = monitor.poll(url)
    while any(job["state"] in ("queued", "running") for job in jobs):
        time.sleep(0.5)
        jobs = monitor.poll(url)
    return jobs


def _key(submission: Submission) -> str:
    return json.dumps([str(submission[0]), submission[1]])


def _differences(url: str, id: str, expected: Any) -> list[str]:
    """What differs from the undisturbed run, in the result or in the events."""
    events = job_events(url, id)
    segments = [event["segment"] for event in events if event["type"] == "job.segment"]
    progress = [event["progress"] for event in events if "progress" in event]
    result = job_result(url, id)
    differs = {
        "result": _without_scores(result) != _without_scores(expected),
        "scores": not _close(_scores(result), _scores(expected), _SCORE_TOLERANCE),
        "word times": not _close(_times(result), _times(expected), _TIME_TOLERANCE),
        "segments": [segment["text"] for segment in segments] != [s["text"] for s in expected["segments"]],
        "segment numbers": [segment["id"] for segment in segments] != list(range(len(segments))),
        "progress": progress != sorted(progress) or progress[-1] != 1.0,
        "final events": sum(event["type"] == "job.succeeded" for event in events) != 1,
    }
    return [f"{id}: {name}" for name, is_different in differs.items() if is_different]


def _close(values: Sequence[float], expected: Sequence[float], tolerance: float) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(values, expected, strict=False))


def _scores(result: Any) -> list[float]:
    """The scores of segments and the probabilities of words."""
    segment_scores = [segment[name] for segment in result["segments"] for name in _SCORES]
    return segment_scores + [word["probability"] for word in _words(result)]


def _times(result: Any) -> list[float]:
    return [word[end] for word in _words(result) for end in ("start", "end")]


def _words(result: Any) -> list[Any]:
    return [word for part in (result, *result["segments"]) for word in part.get("words", ())]


def _without_scores(result: Any) -> Any:
    """Text, tokens and times of segments, and the words."""
    segments = [
        {name: value for name, value in segment.items() if name not in (*_SCORES, "words")}
        for segment in result["segments"]
    ]
    return {**result, "segments": segments, "words": [word["word"] for word in _words(result)]}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--seed", type=int, default=1, help="for the times of the kills")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    report = run_with_crashes(**vars(arguments))
    print(f"{report.kills} kills, {report.restarts} restarts of jobs, {dict(report.states)}, {report.seconds:.0f} s")
    differences = report.differences or "none"
    print(
        f"progress went back {report.progress_regressions} times; differences from the undisturbed run: {differences}"
    )


if __name__ == "__main__":
    main()
