"""What Ray Serve costs, and what replicas bring.

    python benchmarks/cluster.py overhead jfk.flac --model tiny.en --runs 20 --megabytes 100
    python benchmarks/cluster.py scaling --replicas 3

`overhead` sends the same bytes to a plain server and to a replica on Ray Serve, in turn, both with the same settings on
the same cores: a clip that is transcribed, and an upload that is refused after it was read (it is no audio), so that
what is measured is its way. `scaling` has a stand-in for the engine that takes a fixed time for each request and no
CPU, one at a time: cores are not what it measures, the way to several replicas is.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
from chaos import Server
from replicas import free_port, ray_here, running_replicas

_TOO_LONG = 600


def overhead(clip: Path, *, model: str, runs: int, megabytes: int) -> None:
    with ExitStack() as held:
        folders = [held.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        server = Server("--model", model, "--workers", "1", "--data-dir", folders[0])
        server.start()
        held.callback(server.stop)
        held.enter_context(ray_here())
        given = {"model": model, "device": "cpu", "offline": True, "autotune": False, "workers": 1, "auth": False}
        replica = held.enter_context(running_replicas(1, {**given, "data_dir": folders[1]}))
        urls = {"plain": server.url, "Ray Serve": replica}
        client = held.enter_context(httpx2.Client(timeout=_TOO_LONG))
        sides = {"clip": clip.read_bytes(), "upload": b"\0" * (megabytes * 10**6)}
        for what, body in sides.items():
            times: dict[str, list[float]] = {name: [] for name in urls}
            for run in range(-1, runs):
                names = list(urls) if run % 2 else list(reversed(urls))
                for name in names:
                    seconds = _seconds(client, urls[str(name)], body, 200 if what == "clip" else 400)
                    if run >= 0:
                        times[name].append(seconds)
            _report(what, times)


def _seconds(client: httpx2.Client, url: Any, body: bytes, status: int) -> float:
    started = time.monotonic()
    answer = client.post(f"{url}/recognise", files={"file": ("a.flac", body)})
    assert answer.status_code == status, answer.text
    return time.monotonic() - started


def _report(what: str, times: dict[str, list[float]]) -> None:
    plain, other = times.values()
    ratios = sorted(b / a for a, b in zip(plain, other, strict=True))
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    print(
        f"{what}: plain {statistics.median(plain):.3f} s, Ray Serve {statistics.median(other):.3f} s, ratio "
        f"{statistics.median(ratios):.3f} ({quartiles[0]:.3f} to {quartiles[2]:.3f}), {len(ratios)} pairs",
        flush=True,
    )


class FixedTime:
    """Takes so many seconds for each request, one after the other."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._turn = asyncio.Lock()

    async def __call__(self, request: Any) -> str:
        await request.body()
        async with self._turn:
            await asyncio.sleep(self._seconds)
        return "done"


def scaling(replicas: int, *, seconds: float, requests: int, body: bytes) -> float:
    """Return how many times as much so many replicas do as one."""
    rates = {}
    with ray_here():
        for count in (1, replicas):
            rates[count] = _rate(count, seconds, requests * count, body)
            print(f"{count} replicas: {rates[count]:.2f} requests a second", flush=True)
    return rates[replicas] / rates[1]


def _rate(count: int, seconds: float, requests: int, body: bytes) -> float:
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        deployed = serve.deployment(FixedTime, num_replicas=count, ray_actor_options={"num_cpus": 0.1})
        serve.run(deployed.options(max_ongoing_requests=4).bind(seconds))
        url = f"http://127.0.0.1:{port}/"

        def ask(_: int) -> None:
            httpx2.post(url, content=body, timeout=_TOO_LONG).raise_for_status()

        with ThreadPoolExecutor(4 * count) as pool:
            list(pool.map(ask, range(4 * count)))
            started = time.monotonic()
            list(pool.map(ask, range(requests)))
            return requests / (time.monotonic() - started)
    finally:
        serve.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    over = kinds.add_parser("overhead")
    over.add_argument("clip", type=Path)
    over.add_argument("--model", default="tiny.en")
    over.add_argument("--runs", type=int, default=20)
    over.add_argument("--megabytes", type=int, default=100)
    scale = kinds.add_parser("scaling")
    scale.add_argument("--replicas", type=int, default=3)
    scale.add_argument("--seconds", type=float, default=0.5, help="that a request takes")
    scale.add_argument("--requests", type=int, default=30, help="for each replica")
    asked = parser.parse_args()
    if asked.kind == "overhead":
        overhead(asked.clip, model=asked.model, runs=asked.runs, megabytes=asked.megabytes)
    else:
        body = bytes(1_000_000)
        ratio = scaling(asked.replicas, seconds=asked.seconds, requests=asked.requests, body=body)
        print(f"{asked.replicas} replicas do {ratio:.2f} times as much as one")


if __name__ == "__main__":
    main()
