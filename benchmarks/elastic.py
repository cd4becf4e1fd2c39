"""Replicas on Ray Serve that come and go while clients ask.

    python benchmarks/elastic.py tests/audio/short.flac

First from nothing to two replicas and back, by the audio that waits; then two replicas that are replaced one by one by
two with other settings. Says how long each took, and what the clients got.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
from replicas import ray_here, running_replicas, with_options

_CLIENTS = 4
_PATIENCE = 240.0
_SETTINGS = {"model": "tiny.en", "device": "cpu", "offline": True, "autotune": False, "workers": 1, "auth": False}
# Serve's own delays are minutes; audio of one clip is enough for a replica.
_AUTOSCALING = {
    "min_replicas": 0,
    "max_replicas": 2,
    "upscale_delay_s": 1,
    "downscale_delay_s": 5,
    "metrics_interval_s": 1,
    "look_back_period_s": 2,
    "policy": {
        "policy_function": "whisper_server.cluster.scaling:QueuedAudio",
        "policy_kwargs": {"audio_seconds": 4.0, "requests": 100},
    },
}


@dataclass
class Report:
    """Seconds, and how many answers there were of each status."""

    first_answer: float = 0.0
    two_replicas: float = 0.0
    none_again: float = 0.0
    while_scaling: Counter[int] = field(default_factory=Counter)
    replaced: float = 0.0
    while_replacing: Counter[int] = field(default_factory=Counter)


def elastic(clip: bytes) -> Report:
    report = Report()
    with tempfile.TemporaryDirectory() as data, ray_here():
        given = {**_SETTINGS, "data_dir": data}
        with running_replicas(None, given, autoscaling_config=_AUTOSCALING) as url:
            assert _running() == 0
            report.first_answer = _timed(lambda: _ask(url, clip) == 200)
            with asked_again_and_again(url, clip, report.while_scaling):
                report.two_replicas = _timed(lambda: _running() == 2)
            report.none_again = _timed(lambda: _running() == 0)
        with running_replicas(2, given) as url:
            before = _ids(url)
            with asked_again_and_again(url, clip, report.while_replacing):
                report.replaced = _timed(lambda: _replaced(url, given, before))
    return report


def _replaced(url: str, given: dict[str, Any], before: set[str]) -> bool:
    from ray import serve

    from whisper_server.cluster import app

    if _ids(url) == before:
        serve.run(with_options(app({**given, "max_audio_seconds": 600}), num_replicas=2))
    now = _ids(url)
    return len(now) == 2 and not now & before


@contextmanager
def asked_again_and_again(url: str, clip: bytes, answers: Counter[int]) -> Iterator[None]:
    done = Event()

    def ask() -> None:
        while not done.is_set():
            answers[_ask(url, clip)] += 1

    with ThreadPoolExecutor(_CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(_CLIENTS)]
        try:
            yield
        finally:
            done.set()
        for each in asking:
            each.result()


def _ask(url: str, clip: bytes) -> int:
    return httpx2.post(f"{url}/recognise", files={"file": ("a", clip)}, timeout=_PATIENCE).status_code


def _ids(url: str) -> set[str]:
    return {replica["replica"] for replica in httpx2.get(f"{url}/ready", timeout=_PATIENCE).json()["replicas"]}


def _running() -> int:
    from ray import serve

    (application,) = serve.status().applications.values()
    return int(application.deployments["whisper"].replica_states.get("RUNNING", 0))


def _timed(true: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < _PATIENCE, "it took too long"
        time.sleep(0.2)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    report = elastic(parser.parse_args().clip.read_bytes())
    print(f"from nothing, the first answer came after {report.first_answer:.1f} s")
    print(f"with more clients there was a second replica after {report.two_replicas:.1f} s")
    print(f"there was none {report.none_again:.1f} s after the last request")
    print(f"answers meanwhile: {dict(report.while_scaling)}")
    print(f"two replicas were replaced in {report.replaced:.1f} s: {dict(report.while_replacing)}")


if __name__ == "__main__":
    main()
