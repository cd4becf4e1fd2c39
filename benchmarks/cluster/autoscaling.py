"""Replicas on Ray Serve that are added, removed and replaced while clients send requests.

    python -m benchmarks.cluster.autoscaling tests/audio/short.flac

First, autoscaling by queued audio goes from no replica to two and back; then two replicas are replaced one by one by
two with other settings. Reports how long each step took, and the status codes of the responses.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx2

from benchmarks.cluster.ray_cluster import (
    CPU_SETTINGS,
    TIMEOUT,
    deploy,
    replica_ids,
    running_replicas,
    single_node_ray,
    wait_until,
)
from benchmarks.report import argument_parser

_CLIENTS = 4
# Ray Serve's default delays are minutes; the audio of one clip is enough for a replica.
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
    """Seconds of each step, and how many responses had which status."""

    first_response: float = 0.0
    second_replica: float = 0.0
    scaled_to_zero: float = 0.0
    while_scaling: Counter[int] = field(default_factory=Counter)
    replaced: float = 0.0
    while_replacing: Counter[int] = field(default_factory=Counter)


def scale_and_replace(clip: bytes) -> Report:
    report = Report()
    with tempfile.TemporaryDirectory() as data_dir, single_node_ray():
        settings = {**CPU_SETTINGS, "data_dir": data_dir}
        with running_replicas(None, settings, autoscaling_config=_AUTOSCALING) as url:
            assert _count_replicas() == 0
            report.first_response = wait_until(lambda: _send(url, clip) == 200)
            with clients(url, clip, report.while_scaling):
                report.second_replica = wait_until(lambda: _count_replicas() == 2)
            report.scaled_to_zero = wait_until(lambda: _count_replicas() == 0)
        with running_replicas(2, settings) as url:
            before = replica_ids(url)
            with clients(url, clip, report.while_replacing):
                report.replaced = wait_until(lambda: _replace(url, settings, before))
    return report


def _replace(url: str, settings: dict[str, Any], before: set[str]) -> bool:
    """Return whether two new replicas have taken the place of those before; the first call deploys them."""
    if replica_ids(url) == before:
        deploy({**settings, "max_audio_seconds": 600}, num_replicas=2)
    after = replica_ids(url)
    return len(after) == 2 and not after & before


@contextmanager
def clients(url: str, clip: bytes, statuses: Counter[int]) -> Iterator[None]:
    """Clients that send requests until the end of the block, and count the statuses of the responses."""
    stopped = Event()

    def run() -> None:
        while not stopped.is_set():
            statuses[_send(url, clip)] += 1

    with ThreadPoolExecutor(_CLIENTS) as pool:
        futures = [pool.submit(run) for _ in range(_CLIENTS)]
        try:
            yield
        finally:
            stopped.set()
        for future in futures:
            future.result()


def _send(url: str, clip: bytes) -> int:
    return httpx2.post(f"{url}/recognise", files={"file": ("a", clip)}, timeout=TIMEOUT).status_code


def _count_replicas() -> int:
    from ray import serve

    (application,) = serve.status().applications.values()
    return int(application.deployments["whisper"].replica_states.get("RUNNING", 0))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    report = scale_and_replace(parser.parse_args().clip.read_bytes())
    print(f"from no replica to the first response: {report.first_response:.1f} s")
    print(f"from more clients to a second replica: {report.second_replica:.1f} s")
    print(f"from the last request to no replica: {report.scaled_to_zero:.1f} s")
    print(f"responses meanwhile: {dict(report.while_scaling)}")
    print(f"two replicas were replaced in {report.replaced:.1f} s: {dict(report.while_replacing)}")


if __name__ == "__main__":
    main()
