"""Many requests from many clients, some of whom leave: nothing may fail that was not asked for, nothing may pile up.

    python benchmarks/soak.py tests/audio --model tiny.en --requests 2000 --clients 16

Each request sends one of the clips with an option or two; every fifth client hangs up after a random part of a second.
Threads, descriptors and memory of the server are looked at after every tenth of the requests, when nothing runs, and
/health is asked every 50 ms while it works. With --unload the model is unloaded before each look, and with it what the
heap keeps for the next window: what is left then is what somebody still holds.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx2
from running import running_server

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
ABORTED = "aborted"


@dataclass
class Footprint:
    requests: int
    threads: int
    descriptors: int
    megabytes: float


@dataclass
class Report:
    outcomes: Counter[str] = field(default_factory=Counter)
    footprints: list[Footprint] = field(default_factory=list)
    health: dict[str, float] = field(default_factory=dict)


class Probe:
    """Asks for /health all the time, until the end of the block, and knows how long that took, in milliseconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = Event()
        self._times: list[float] = []
        self._thread = Thread(target=self._ask)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=60) as client:
            while not self._ended.wait(0.05):
                started = time.perf_counter()
                client.get("/health").raise_for_status()
                self._times.append(1000 * (time.perf_counter() - started))

    def summary(self) -> dict[str, float]:
        times = sorted(self._times)
        places = {"median": 0.5, "p99": 0.99, "p99.9": 0.999, "slowest": 1.0}
        return {name: round(times[min(int(at * len(times)), len(times) - 1)], 1) for name, at in places.items()}


def soak(
    url: str, pid: int, clips: Sequence[Path], *, requests: int, clients: int, seed: int = 1, unload: bool = False
) -> Report:
    """Send the requests in ten rounds and return what became of them and of the server."""
    rng, report = random.Random(seed), Report()
    contents = [clip.read_bytes() for clip in clips]
    with ThreadPoolExecutor(clients) as pool, Probe(url) as probe:
        for done in range(0, requests, max(1, requests // 10)):
            count = min(max(1, requests // 10), requests - done)
            work = [_request(rng, contents) for _ in range(count)]
            report.outcomes.update(pool.map(lambda request: _send(url, *request), work))
            httpx2.post(f"{url}/recognise", files={"file": ("clip", contents[0])}, timeout=600)
            if unload:
                httpx2.post(f"{url}/unload", timeout=600).raise_for_status()
            report.footprints.append(footprint(pid, done + count))
    report.health = probe.summary()
    return report


def _request(rng: random.Random, contents: Sequence[bytes]) -> tuple[bytes, dict[str, str], float | None]:
    patience = rng.uniform(0.01, 1.0) if rng.random() < 0.2 else None
    return rng.choice(contents), rng.choice(OPTIONS), patience


def _send(url: str, content: bytes, options: dict[str, str], patience: float | None) -> str:
    try:
        timeout = httpx2.Timeout(600, read=patience or 600)
        answer = httpx2.post(f"{url}/recognise", files={"file": ("clip", content)}, data=options, timeout=timeout)
    except httpx2.ReadTimeout:
        return ABORTED
    except httpx2.HTTPError as exc:
        return type(exc).__name__
    return str(answer.status_code)


def footprint(pid: int, requests: int) -> Footprint:
    process = Path(f"/proc/{pid}")
    memory = re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())
    assert memory is not None
    counts = [len(list((process / kind).iterdir())) for kind in ("task", "fd")]
    return Footprint(requests, counts[0], counts[1], round(int(memory.group(1)) / 1024, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--unload", action="store_true")
    arguments = parser.parse_args()
    with running_server(arguments.model) as (url, pid):
        clips = sorted(arguments.clips.glob("*.flac"))
        report = soak(url, pid, clips, requests=arguments.requests, clients=arguments.clients, unload=arguments.unload)
    # asdict() would make the counter count pairs.
    footprints = [asdict(each) for each in report.footprints]
    print(json.dumps({"outcomes": report.outcomes, "footprints": footprints, "health": report.health}, indent=1))


if __name__ == "__main__":
    main()
