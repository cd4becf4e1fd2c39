"""A Ray of several nodes on this machine, one of which is killed under load.

    python benchmarks/nodes.py tests/audio/short.flac --model tiny.en --jobs 6

Three nodes have a replica each; the proxy is on a fourth, which stays. Clients send the clip again and again, and jobs
are at work. One node is killed, and another comes in its place. Says what the clients got, whether each job ended once,
and when there were three replicas again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
from replicas import QUIET, running_replicas

_NODES = 3
_CLIENTS = 3
_PATIENCE = 240.0


@dataclass
class Report:
    """`failed` are answers other than 200, or what else became of a request; each was sent again at once."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_retriable: list[str] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)
    seconds_until_whole: float = 0.0


@contextmanager
def nodes() -> Iterator[Any]:
    os.environ.update(QUIET)
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(_NODES):
            add(cluster)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=100_000_000)


def kill(clip: bytes, *, model: str, jobs: int) -> Report:
    report = Report()
    with nodes() as cluster, tempfile.TemporaryDirectory() as data:
        given = {"model": model, "device": "cpu", "offline": True, "autotune": False, "workers": 1, "auth": False}
        options = {"ray_actor_options": {"num_cpus": 1}}
        with running_replicas(_NODES, {**given, "data_dir": data}, **options) as url:
            done = Event()
            with ThreadPoolExecutor(_CLIENTS) as pool:
                asking = [pool.submit(_ask, url, clip, report, done) for _ in range(_CLIENTS)]
                try:
                    ids = [_job(url, clip) for _ in range(jobs)]
                    _until(lambda: report.answered >= 2 * _CLIENTS)
                    before = {replica["replica"] for replica in _replicas(url)}
                    assert len(before) == _NODES
                    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                    killed = time.monotonic()
                    add(cluster)
                    _until(lambda: len(_replicas(url)) == _NODES and {r["replica"] for r in _replicas(url)} != before)
                    report.seconds_until_whole = time.monotonic() - killed
                    for id in ids:
                        report.ends[_ends(url, id)] += 1
                finally:
                    done.set()
                for each in asking:
                    each.result()
    return report


def _ask(url: str, clip: bytes, report: Report, done: Event) -> None:
    while not done.is_set():
        try:
            answer = httpx2.post(f"{url}/recognise", files={"file": ("a", clip)}, timeout=_PATIENCE)
        except httpx2.TransportError as exc:
            report.failed[type(exc).__name__] += 1
            continue
        if answer.status_code == 200:
            report.answered += 1
        else:
            report.failed[str(answer.status_code)] += 1
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                report.not_retriable.append(f"{answer.status_code} {answer.text[:200]}")


def _again(url: str, method: str, **more: Any) -> httpx2.Response:
    """As a client that sends again what may be sent again."""
    for _ in range(60):
        answer = httpx2.request(method, url, timeout=_PATIENCE, **more)
        if answer.status_code != 503:
            return answer
        time.sleep(1)
    raise AssertionError(answer.text)


def _job(url: str, clip: bytes) -> str:
    id: str = _again(f"{url}/v1/jobs", "POST", files={"file": ("a", clip)}).json()["id"]
    return id


def _ends(url: str, id: str) -> int:
    """How often the job has ended, which is once."""
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE:
        text = _again(f"{url}/v1/jobs/{id}/events", "GET").text
        if ends := text.count("event: job.succeeded"):
            return ends
    return 0


def _replicas(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _again(f"{url}/ready", "GET").json()["replicas"]
    return found


def _until(true: Any) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--jobs", type=int, default=6)
    asked = parser.parse_args()
    report = kill(asked.clip.read_bytes(), model=asked.model, jobs=asked.jobs)
    retriable = report.not_retriable or "all may be sent again"
    print(f"{report.answered} answered, failed: {dict(report.failed) or 'none'}, {retriable}")
    print(f"jobs by how often they ended: {dict(report.ends)}; whole again after {report.seconds_until_whole:.1f} s")


if __name__ == "__main__":
    main()
