"""Many requests from many clients, some of whom disconnect: none may fail, and no resource may leak.

    python -m benchmarks.server.soak tests/audio --model tiny.en --requests 2000 --clients 16

Each request sends a random clip with random options, and every fifth client disconnects within a second. Threads, file
descriptors and memory of the server are recorded after each tenth of the requests, when nothing runs, and /health is
requested every 50 ms meanwhile. With --unload, the model is unloaded before each record, and with it the memory that
malloc keeps for the next window, so that only leaks would grow.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx2

from benchmarks.report import argument_parser
from benchmarks.server_process import ServerProcess, resident_megabytes

OPTIONS: Sequence[dict[str, str]] = (
    {},
    {"beam_size": "3"},
    {"word_timestamps": "true"},
    {"encoder_window": "adaptive"},
    {"mode": "batched", "encoder_window": "adaptive"},
    {"initial_prompt": "A kettle, a stove and tea.", "condition_on_previous_text": "false"},
    {"response_format": "srt", "max_words_per_line": "4"},
    {"vad_filter": "true"},
)
DISCONNECTED = "disconnected"
ROUNDS = 10


@dataclass(frozen=True)
class Footprint:
    """The resources of the server after this number of requests."""

    requests: int
    threads: int
    descriptors: int
    megabytes: float


@dataclass
class Report:
    """`outcomes` counts status codes, disconnects and errors; `health_ms` has the latencies of /health."""

    outcomes: Counter[str] = field(default_factory=Counter)
    footprints: list[Footprint] = field(default_factory=list)
    health_ms: dict[str, float] = field(default_factory=dict)


class HealthProbe:
    """Requests /health every 50 ms until the end of the block."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopped = Event()
        self._latencies: list[float] = []
        self._thread = Thread(target=self._run)

    def __enter__(self) -> HealthProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=60) as client:
            while not self._stopped.wait(0.05):
                started = time.perf_counter()
                client.get("/health").raise_for_status()
                self._latencies.append(1000 * (time.perf_counter() - started))

    def percentiles(self) -> dict[str, float]:
        """In milliseconds."""
        latencies = sorted(self._latencies)
        shares = {"median": 0.5, "p99": 0.99, "p99.9": 0.999, "slowest": 1.0}
        last = len(latencies) - 1
        return {name: round(latencies[min(int(share * len(latencies)), last)], 1) for name, share in shares.items()}


def soak(
    url: str, pid: int, clips: Sequence[Path], *, requests: int, clients: int, seed: int = 1, unload: bool = False
) -> Report:
    generator, report = random.Random(seed), Report()
    contents = [clip.read_bytes() for clip in clips]
    with ThreadPoolExecutor(clients) as pool, HealthProbe(url) as probe:
        for done in range(0, requests, max(1, requests // ROUNDS)):
            count = min(max(1, requests // ROUNDS), requests - done)
            batch = [_random_request(generator, contents) for _ in range(count)]
            report.outcomes.update(pool.map(lambda request: _send(url, *request), batch))
            httpx2.post(f"{url}/recognise", files={"file": ("clip", contents[0])}, timeout=600)
            if unload:
                httpx2.post(f"{url}/unload", timeout=600).raise_for_status()
            report.footprints.append(footprint(pid, done + count))
    report.health_ms = probe.percentiles()
    return report


def _random_request(generator: random.Random, contents: Sequence[bytes]) -> tuple[bytes, dict[str, str], float | None]:
    """A clip, its options, and the seconds after which the client disconnects, or None."""
    disconnect_after = generator.uniform(0.01, 1.0) if generator.random() < 0.2 else None
    return generator.choice(contents), generator.choice(OPTIONS), disconnect_after


def _send(url: str, content: bytes, options: dict[str, str], disconnect_after: float | None) -> str:
    try:
        timeout = httpx2.Timeout(600, read=disconnect_after or 600)
        response = httpx2.post(f"{url}/recognise", files={"file": ("clip", content)}, data=options, timeout=timeout)
    except httpx2.ReadTimeout:
        return DISCONNECTED
    except httpx2.HTTPError as exc:
        return type(exc).__name__
    return str(response.status_code)


def footprint(pid: int, requests: int) -> Footprint:
    threads, descriptors = (len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("task", "fd"))
    return Footprint(requests, threads, descriptors, resident_megabytes(pid))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clips", type=Path, help="a folder with FLAC files")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--unload", action="store_true", help="unload the model before each record")
    arguments = parser.parse_args()
    clips = sorted(arguments.clips.glob("*.flac"))
    count, clients, unload = arguments.requests, arguments.clients, arguments.unload
    with ServerProcess("--model", arguments.model) as server:
        report = soak(server.url, server.pid, clips, requests=count, clients=clients, unload=unload)
    # asdict() of the whole report would count the items of the counter.
    footprints = [asdict(each) for each in report.footprints]
    print(json.dumps({"outcomes": report.outcomes, "footprints": footprints, "health_ms": report.health_ms}, indent=1))


if __name__ == "__main__":
    main()
