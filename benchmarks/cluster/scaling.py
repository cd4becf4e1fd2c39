"""The throughput of several replicas on Ray Serve compared with one.

    python -m benchmarks.cluster.scaling --replicas 3

Instead of a model, each replica has a stand-in that takes a fixed time for each request, one at a time, and no CPU: it
measures the way of requests to replicas and not the cores of this machine.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from benchmarks.cluster.ray_cluster import single_node_ray
from benchmarks.report import argument_parser
from benchmarks.server_process import free_port

_TIMEOUT = 600
_BODY = bytes(1_000_000)


class FixedTime:
    """A deployment that takes this many seconds for each request, one after the other."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()

    async def __call__(self, request: Any) -> str:
        await request.body()
        async with self._lock:
            await asyncio.sleep(self._seconds)
        return "done"


def requests_per_second(replicas: int, seconds: float, requests: int) -> float:
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        deployment = serve.deployment(FixedTime, num_replicas=replicas, ray_actor_options={"num_cpus": 0.1})
        serve.run(deployment.options(max_ongoing_requests=4).bind(seconds))
        url = f"http://127.0.0.1:{port}/"

        def send(_: int) -> None:
            httpx2.post(url, content=_BODY, timeout=_TIMEOUT).raise_for_status()

        with ThreadPoolExecutor(4 * replicas) as pool:
            list(pool.map(send, range(4 * replicas)))  # warms up
            started = time.monotonic()
            list(pool.map(send, range(requests)))
            return requests / (time.monotonic() - started)
    finally:
        serve.shutdown()


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="time of a request")
    parser.add_argument("--requests", type=int, default=30, help="number for each replica")
    arguments = parser.parse_args()
    rates = []
    with single_node_ray():
        for replicas in (1, arguments.replicas):
            rates.append(requests_per_second(replicas, arguments.seconds, arguments.requests * replicas))
            print(f"{replicas} replicas: {rates[-1]:.2f} requests a second", flush=True)
    print(f"{arguments.replicas} replicas have {rates[1] / rates[0]:.2f} times the throughput of one")


if __name__ == "__main__":
    main()
