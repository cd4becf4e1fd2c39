"""A Ray cluster of several nodes on this machine, one of which is killed under load.

    python -m benchmarks.cluster.node_failure tests/audio/short.flac --model tiny.en --jobs 6

Three nodes have one replica each; the proxy is on a fourth node, which stays. While clients send the clip repeatedly
and jobs are processed, one node is killed and a new one joins. Reports the responses, how often each job ended, and how
long it took until three replicas were running again.
"""

from __future__ import annotations

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

from benchmarks.cluster.ray_cluster import (
    CPU_SETTINGS,
    OBJECT_STORE_BYTES,
    RAY_ENVIRONMENT,
    TIMEOUT,
    running_replicas,
    wait_until,
)
from benchmarks.report import argument_parser

_NODES = 3
_CLIENTS = 3


@dataclass
class Report:
    """`failures` are statuses other than 200, and errors of the transport."""

    succeeded: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    not_retriable: list[str] = field(default_factory=list)
    job_ends: Counter[int] = field(default_factory=Counter)
    recovery_seconds: float = 0.0


@contextmanager
def ray_nodes() -> Iterator[Any]:
    """Yield a cluster with one node without CPUs, and the others with one CPU each."""
    os.environ.update(RAY_ENVIRONMENT)
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(_NODES):
            _add_node(cluster)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def _add_node(cluster: Any) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)


def kill_node_under_load(clip: bytes, *, model: str, jobs: int) -> Report:
    report = Report()
    with ray_nodes() as cluster, tempfile.TemporaryDirectory() as data_dir:
        settings = {**CPU_SETTINGS, "model": model, "data_dir": data_dir}
        with running_replicas(_NODES, settings, ray_actor_options={"num_cpus": 1}) as url:
            stopped = Event()
            with ThreadPoolExecutor(_CLIENTS) as pool:
                clients = [pool.submit(_send_repeatedly, url, clip, report, stopped) for _ in range(_CLIENTS)]
                try:
                    ids = [_submit_job(url, clip) for _ in range(jobs)]
                    wait_until(lambda: report.succeeded >= 2 * _CLIENTS)
                    report.recovery_seconds = _replace_node(cluster, url)
                    report.job_ends.update(_count_ends(url, id) for id in ids)
                finally:
                    stopped.set()
                for client in clients:
                    client.result()
    return report


def _replace_node(cluster: Any, url: str) -> float:
    """Kill a node and add one; return the seconds until there are as many replicas as before."""
    before = _replica_ids(url)
    assert len(before) == _NODES
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    killed = time.monotonic()
    _add_node(cluster)
    wait_until(lambda: len(after := _replica_ids(url)) == _NODES and after != before)
    return time.monotonic() - killed


def _send_repeatedly(url: str, clip: bytes, report: Report, stopped: Event) -> None:
    while not stopped.is_set():
        try:
            response = httpx2.post(f"{url}/recognise", files={"file": ("a", clip)}, timeout=TIMEOUT)
        except httpx2.TransportError as exc:
            report.failures[type(exc).__name__] += 1
            continue
        if response.status_code == 200:
            report.succeeded += 1
        else:
            report.failures[str(response.status_code)] += 1
            if response.status_code != 503 or "retry-after" not in response.headers:
                report.not_retriable.append(f"{response.status_code} {response.text[:200]}")


def _request_with_retries(url: str, method: str, **options: Any) -> httpx2.Response:
    """Retry after each 503, as clients do."""
    for _ in range(60):
        response = httpx2.request(method, url, timeout=TIMEOUT, **options)
        if response.status_code != 503:
            return response
        time.sleep(1)
    raise AssertionError(response.text)


def _submit_job(url: str, clip: bytes) -> str:
    id: str = _request_with_retries(f"{url}/v1/jobs", "POST", files={"file": ("a", clip)}).json()["id"]
    return id


def _count_ends(url: str, id: str) -> int:
    """How often the events of the job say that it has succeeded; it should be once."""
    started = time.monotonic()
    while time.monotonic() - started < TIMEOUT:
        events = _request_with_retries(f"{url}/v1/jobs/{id}/events", "GET").text
        if ends := events.count("event: job.succeeded"):
            return ends
    return 0


def _replica_ids(url: str) -> set[str]:
    replicas = _request_with_retries(f"{url}/ready", "GET").json()["replicas"]
    return {replica["replica"] for replica in replicas}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--jobs", type=int, default=6)
    arguments = parser.parse_args()
    report = kill_node_under_load(arguments.clip.read_bytes(), model=arguments.model, jobs=arguments.jobs)
    retriable = report.not_retriable or "all can be retried"
    print(f"{report.succeeded} requests succeeded, failures: {dict(report.failures) or 'none'}, {retriable}")
    print(f"jobs by the number of times that they ended: {dict(report.job_ends)}")
    print(f"{_NODES} replicas were running again after {report.recovery_seconds:.1f} s")


if __name__ == "__main__":
    main()
