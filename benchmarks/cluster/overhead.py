"""What Ray Serve adds to a plain server: the same bytes to both, in turn, with the same settings on the same cores.

    python -m benchmarks.cluster.overhead speech.wav --model tiny.en --runs 20 --megabytes 100

Sends a clip that is transcribed, and an upload that is refused once it has been read, as it is no audio: its time is
that of the transfer.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2

from benchmarks.cluster.ray_cluster import CPU_SETTINGS, running_replicas, single_node_ray
from benchmarks.report import argument_parser
from benchmarks.server_process import UNTUNED_CPU, ServerProcess

_TIMEOUT = 600


def measure(clip: Path, *, model: str, runs: int, megabytes: int) -> None:
    with ExitStack() as stack:
        data_dirs = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        flags = (*UNTUNED_CPU, "--model", model, "--workers", "1", "--data-dir", data_dirs[0])
        plain = stack.enter_context(ServerProcess(*flags)).url
        stack.enter_context(single_node_ray())
        settings = {**CPU_SETTINGS, "model": model, "data_dir": data_dirs[1]}
        replica = stack.enter_context(running_replicas(1, settings))
        client = stack.enter_context(httpx2.Client(timeout=_TIMEOUT))
        for name, body, status in (
            ("clip", clip.read_bytes(), 200),
            ("upload", bytes(megabytes * 10**6), 400),
        ):
            times: dict[str, list[float]] = {plain: [], replica: []}
            for run in range(-1, runs):
                for url in times if run % 2 else reversed(times):
                    seconds = _request_seconds(client, url, body, status)
                    if run >= 0:  # the first run warms up
                        times[url].append(seconds)
            _report(name, times[plain], times[replica])


def _request_seconds(client: httpx2.Client, url: str, body: bytes, status: int) -> float:
    started = time.monotonic()
    response = client.post(f"{url}/recognise", files={"file": ("a.flac", body)})
    assert response.status_code == status, response.text
    return time.monotonic() - started


def _report(name: str, plain: list[float], replica: list[float]) -> None:
    ratios = sorted(b / a for a, b in zip(plain, replica, strict=True))
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    print(
        f"{name}: plain {statistics.median(plain):.3f} s, Ray Serve {statistics.median(replica):.3f} s, ratio "
        f"{statistics.median(ratios):.3f} ({quartiles[0]:.3f} to {quartiles[2]:.3f}), {len(ratios)} pairs",
        flush=True,
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100, help="size of the upload that is refused")
    arguments = parser.parse_args()
    measure(arguments.clip, model=arguments.model, runs=arguments.runs, megabytes=arguments.megabytes)


if __name__ == "__main__":
    main()
