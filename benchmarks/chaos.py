"""Jobs on servers that are killed again and again, against the same jobs on one that nobody disturbs.

    python benchmarks/chaos.py tests/audio/long.flac tests/audio/sentences.flac --jobs 30 --kills 10
    python benchmarks/chaos.py tests/audio/long.flac tests/audio/sentences.flac --jobs 30 --kills 10 --servers 2

With two servers they share one PostgreSQL, which is started for that, and one directory.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from postgresql import running_postgresql

logger = logging.getLogger(__name__)

# Matrices of other shapes are multiplied in another order of additions: what runs in a batch with what differs.
_ROUNDING = 2e-3
# The model's copies have other threads and batches, whose sums differ in the last bits: a tie may go the other way.
_SHIFT = 0.1
_SCORES = ("avg_logprob", "no_speech_prob")

# Every way in which windows are decoded.
OPTIONS: tuple[dict[str, str], ...] = ({}, {"word_timestamps": "true"}, {"mode": "batched"}, {"beam_size": "3"})


class Server:
    """`whisper-server` in a process of its own, again and again."""

    def __init__(self, *flags: str) -> None:
        shared = ["--port", "0", "--device", "cpu", "--offline", "--no-autotune", "--log-level", "info"]
        self._command = [sys.executable, "-m", "whisper_server", *shared, *flags]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        self._process = process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if " serving " in line:
                break
        else:
            raise AssertionError("".join(lines))
        self.url = lines[-1].split()[-1]
        self._reader = Thread(target=process.stderr.read)  # a full pipe would stop the server
        self._reader.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._reader.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None


@dataclass
class Report:
    states: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    restarts: int = 0
    different: list[str] = field(default_factory=list)
    steps_back: int = 0
    seconds: float = 0.0


class Watch:
    """What was seen of the jobs, to find progress that went back."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seen: dict[str, float] = {}

    def look(self, jobs: Sequence[dict[str, Any]]) -> None:
        for job in jobs:
            before = self._seen.get(job["id"], 0.0)
            self._report.steps_back += job["progress"] < before
            self._seen[job["id"]] = job["progress"]


def chaos(
    files: Sequence[Path], *, jobs: int, kills: int, model: str = "tiny.en", servers: int = 1, seed: int = 1
) -> Report:
    """Run the jobs undisturbed, then on servers that are killed so often meanwhile, and compare."""
    randomness = random.Random(seed)
    report = Report()
    with ExitStack() as held:
        flags = ["--model", model, "--compute-type", "float32"]
        works = [(files[number % len(files)], OPTIONS[number % len(OPTIONS)]) for number in range(jobs)]
        calm = _calm([*flags, "--data-dir", held.enter_context(tempfile.TemporaryDirectory())], works)
        flags += ["--data-dir", held.enter_context(tempfile.TemporaryDirectory())]
        if servers > 1:
            flags += ["--database-url", held.enter_context(running_postgresql())]
        group = [Server(*flags) for _ in range(servers)]
        for server in group:
            server.start()
            held.callback(server.stop)
        started = time.monotonic()
        ids = [_submit(group[0].url, *work) for work in works]
        logger.info("%d jobs are queued", len(ids))
        watch = Watch(report)
        for _ in range(kills):
            victim = randomness.choice(group)
            deadline = time.monotonic() + randomness.uniform(0.5, 6.0)
            while time.monotonic() < deadline:
                watch.look(_all(victim.url))
                time.sleep(0.25)
            victim.stop(signal.SIGKILL)
            report.kills += 1
            victim.start()
            logger.info("kill %d of %d", report.kills, kills)
        watch.look(found := _all(group[-1].url))
        while any(job["state"] in ("queued", "running") for job in found):
            time.sleep(0.5)
            watch.look(found := _all(group[-1].url))
        report.seconds = time.monotonic() - started
        report.states.update(job["state"] for job in found)
        report.restarts = sum(job["restarts"] for job in found)
        assert sorted(job["id"] for job in found) == sorted(ids)
        for id, work in zip(ids, works, strict=True):
            report.different += _differences(group[-1].url, id, calm[_name(work)])
    return report


def _calm(flags: Sequence[str], works: Sequence[tuple[Path, dict[str, str]]]) -> dict[str, Any]:
    server = Server(*flags)
    server.start()
    try:
        ids = {_name(work): _submit(server.url, *work) for work in works}
        for id in ids.values():
            _events(server.url, id)
        return {name: _result(server.url, id) for name, id in ids.items()}
    finally:
        server.stop()


def _name(work: tuple[Path, dict[str, str]]) -> str:
    return json.dumps([str(work[0]), work[1]])


def _submit(url: str, file: Path, options: dict[str, str]) -> str:
    answer = httpx2.post(f"{url}/v1/jobs", files={"file": (file.name, file.read_bytes())}, data=options, timeout=60)
    assert answer.status_code == 202, answer.text
    id: str = answer.json()["id"]
    return id


def _all(url: str) -> list[dict[str, Any]]:
    page = httpx2.get(f"{url}/v1/jobs?limit=100", timeout=60).json()
    assert not page["has_more"]
    jobs: list[dict[str, Any]] = page["data"]
    return jobs


def _events(url: str, id: str) -> list[dict[str, Any]]:
    text = httpx2.get(f"{url}/v1/jobs/{id}/events", timeout=600).text
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def _result(url: str, id: str) -> Any:
    return httpx2.get(f"{url}/v1/jobs/{id}/result?response_format=verbose_json", timeout=60).json()


def _differences(url: str, id: str, expected: Any) -> list[str]:
    """What is not as in a calm run: the result, or what the events say of it."""
    told = _events(url, id)
    segments = [event["segment"] for event in told if event["type"] == "job.segment"]
    progress = [event["progress"] for event in told if "progress" in event]
    result = _result(url, id)
    scores = zip(_scores(result), _scores(expected), strict=False)
    wrong = {
        "result": _without_scores(result) != _without_scores(expected),
        "scores": any(abs(one - other) > _ROUNDING for one, other in scores),
        "word times": any(
            abs(one - other) > _SHIFT for one, other in zip(_times(result), _times(expected), strict=False)
        ),
        "segments": [segment["text"] for segment in segments] != [s["text"] for s in expected["segments"]],
        "numbers": [segment["id"] for segment in segments] != list(range(len(segments))),
        "progress": progress != sorted(progress) or progress[-1] != 1.0,
        "ends": sum(event["type"] == "job.succeeded" for event in told) != 1,
    }
    return [f"{id}: {name}" for name, is_wrong in wrong.items() if is_wrong]


def _scores(result: Any) -> list[float]:
    """Those of segments, and the probabilities of words."""
    of_segments = [segment[name] for segment in result["segments"] for name in _SCORES]
    return of_segments + [word["probability"] for word in _words(result)]


def _times(result: Any) -> list[float]:
    """Those of words, which are measured in steps of 0.02 s."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    report = chaos(
        asked.files, jobs=asked.jobs, kills=asked.kills, model=asked.model, servers=asked.servers, seed=asked.seed
    )
    print(f"{report.kills} kills, {report.restarts} restarts of jobs, {dict(report.states)}, {report.seconds:.0f} s")
    print(f"progress went back {report.steps_back} times; different from the calm run: {report.different or 'nothing'}")


if __name__ == "__main__":
    main()
