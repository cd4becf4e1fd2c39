"""Servers under load, into which one fault after the other is injected.

    python -m benchmarks.faults.harness tests/audio --minutes 30
    python -m benchmarks.faults.harness tests/audio --minutes 30 --postgresql

Two servers share a data directory. Clients with two API keys send files and jobs, look at each other's jobs, and break
connections off. Every job that was accepted must end exactly once, with the text of an undisturbed server, and be
reported by a webhook; no response may have another text; no key may see another's jobs; /health must respond unless the
server itself is stopped; afterwards no descriptors may have leaked. As root, the data is on a file system of 64 MB that
is filled. With libfaketime, the servers' clock is changed.
"""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx2

from benchmarks.faults.faults import Environment, Target, available, faketime_library
from benchmarks.faults.load import KEYS, Clip, Load, Observations, check_jobs, check_webhooks, webhook_receiver
from benchmarks.jobs.postgresql import running_postgresql
from benchmarks.report import argument_parser, markdown_table
from benchmarks.server_process import UNTUNED_CPU, ServerProcess, resident_megabytes
from benchmarks.transcription.libraries import find_model

logger = logging.getLogger(__name__)

_FILES = ("short.flac", "sentences.flac", "long.flac")
_HEALTH_INTERVAL, _HEALTH_TIMEOUT = 0.5, 5.0
_FLAGS = (
    *UNTUNED_CPU, "--model", "mine", "--shutdown-timeout", "5", "--job-ttl", "0", "--webhook-host", "localhost",
    "--webhook-secret", "secret-of-the-harness", "--max-requests", "32",
)  # fmt: skip


@dataclass
class Report:
    faults: Counter[str] = field(default_factory=Counter)
    observations: Observations = field(default_factory=Observations)
    jobs: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    megabytes: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0


def inject_faults(
    audio: Path, *, minutes: float, seconds: float = 8.0, postgresql: bool = False, clients: int = 8, seed: int = 1
) -> Report:
    """Inject random faults, each for about so many seconds, and return what was observed."""
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.copytree(find_model("tiny.en"), folder / "models" / "mine")
        database = stack.enter_context(running_postgresql()) if postgresql else None
        disk = stack.enter_context(_small_disk(folder / "disk"))
        clock = folder / "clock" if faketime_library() else None
        flags = [*_FLAGS, "--models-dir", str(folder / "models"), "--data-dir", str((disk or folder) / "data")]
        flags += [flag for key in KEYS for flag in ("--api-key", key)]
        flags += ["--database-url", database.url] if database is not None else []
        servers = [ServerProcess(*flags, environ=_environ(clock), log_lines=None) for _ in range(2)]
        targets = [Target(stack.enter_context(server)) for server in servers]
        clips = [Clip(audio / name) for name in _FILES]
        for clip in clips:
            clip.text = _undisturbed_text(servers[0].url, clip)
        environment = Environment(targets, random.Random(seed), seconds, folder / "models", disk, clock, database)
        _disturb(environment, clips, report, minutes=minutes, clients=clients, seed=seed)
        for server in servers:
            report.errors.update(_errors(server.log))
    return report


def _disturb(
    environment: Environment, clips: Sequence[Clip], report: Report, *, minutes: float, clients: int, seed: int
) -> None:
    observations, servers = report.observations, [target.process for target in environment.targets]
    descriptors, memory = [_descriptors(server) for server in servers], [resident_megabytes(s.pid) for s in servers]
    started = time.monotonic()
    with webhook_receiver(observations) as callback_url:
        load = Load(lambda: [server.url for server in servers], clips, observations, callback_url)
        environment.load = load
        with _health_checks(environment.targets, observations), load.running(clients, seed):
            remaining = list[Callable[[Environment], None]]()
            while time.monotonic() - started < 60 * minutes:
                if not remaining:
                    remaining = available(environment)
                    environment.generator.shuffle(remaining)
                fault = remaining.pop()
                logger.info("%s; %d violations so far", fault.__name__, len(observations.violations))
                fault(environment)
                report.faults[fault.__name__] += 1
        logger.info("no more faults; waiting for %d jobs", len(observations.jobs))
        report.jobs = check_jobs(servers[0].url, observations, timeout=300)
        check_webhooks(observations, timeout=120)
    report.seconds = time.monotonic() - started
    time.sleep(5)  # connections close
    for server, before, megabytes in zip(servers, descriptors, memory, strict=True):
        report.megabytes.append((megabytes, resident_megabytes(server.pid)))
        if _descriptors(server) > before + 8:
            observations.violate(f"a server has {_descriptors(server)} descriptors, and had {before}")


@contextmanager
def _health_checks(targets: Sequence[Target], observations: Observations) -> Iterator[None]:
    stopped = Event()

    def check(target: Target) -> None:
        while not stopped.wait(_HEALTH_INTERVAL):
            expected = target.expected_to_respond
            try:
                httpx2.get(f"{target.process.url}/health", timeout=_HEALTH_TIMEOUT)
            except httpx2.HTTPError as exc:
                if expected and target.expected_to_respond:
                    observations.violate(f"/health: {type(exc).__name__}")

    threads = [Thread(target=check, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    yield
    stopped.set()
    for thread in threads:
        thread.join()


@contextmanager
def _small_disk(path: Path) -> Iterator[Path | None]:
    """Mount a file system of 64 MB, or yield None if this user cannot."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _environ(clock: Path | None) -> dict[str, str]:
    """The monotonic clock stays right, as that of the kernel does when somebody sets the time."""
    if clock is None:
        return {}
    clock.write_text("+0")
    return {
        "LD_PRELOAD": faketime_library() or "",
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }


def _undisturbed_text(url: str, clip: Clip) -> str:
    headers, files = {"authorization": f"Bearer {KEYS[0]}"}, {"file": (clip.path.name, clip.content)}
    response = httpx2.post(f"{url}/recognise", files=files, headers=headers, timeout=60)
    text: str = response.json()["transcription"]["text"]
    return text


def _descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def _errors(log: Sequence[str]) -> Iterator[str]:
    """The errors in a log, without what differs between two of a kind."""
    for line in log:
        if " ERROR " in line or line.startswith("Traceback"):
            yield re.sub(r"job_\w+|\b[0-9a-f]{12,}\b|\d+", "…", line.partition(" ERROR ")[2] or line).strip()[:200]


def print_report(report: Report) -> None:
    observations = report.observations
    print(f"{sum(report.faults.values())} faults in {report.seconds / 60:.0f} min: {dict(report.faults)}")
    print(f"jobs: {dict(report.jobs)}; webhooks: {sum(observations.webhooks.values())}")
    print(f"resident megabytes before and after: {report.megabytes}\n")
    print(markdown_table(["outcome", "requests"], _rows(observations.outcomes), text_columns=("outcome",)))
    print(markdown_table(["error in the log", "lines"], _rows(report.errors), text_columns=("error in the log",)))
    print(f"\nviolations: {len(observations.violations)}")
    for what, count in Counter(observations.violations).most_common(20):
        print(f"- {count} × {what}")


def _rows(counter: Counter[str]) -> list[list[str]]:
    return [[what, str(count)] for what, count in sorted(counter.items())]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=8, help="how long a fault lasts, on average")
    parser.add_argument("--postgresql", action="store_true", help="the jobs are in a PostgreSQL that fails, too")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    print_report(inject_faults(**vars(arguments)))


if __name__ == "__main__":
    main()
