"""The faults. Each is injected, lasts for some seconds, and is removed; the servers must go on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx2

from benchmarks.faults.load import KEYS, Load, wait_for_event
from benchmarks.jobs.postgresql import PostgreSQL
from benchmarks.server_process import ServerProcess

_LIBRARIES = Path("/usr/lib")


@dataclass
class Target:
    """A server, and whether it has to respond now."""

    process: ServerProcess
    expected_to_respond: bool = True

    @contextmanager
    def disturbed(self) -> Iterator[ServerProcess]:
        self.expected_to_respond = False
        yield self.process
        self.expected_to_respond = True


@dataclass
class Environment:
    """What faults are injected into. `disk` is a small file system with the jobs' data, if one could be mounted.

    `clock` is a file from which the servers read by how much their clock is wrong, if libfaketime is installed.
    """

    targets: list[Target]
    generator: Random
    seconds: float
    models_dir: Path
    disk: Path | None = None
    clock: Path | None = None
    postgresql: PostgreSQL | None = None
    load: Load | None = None

    def any_target(self) -> Target:
        return self.generator.choice(self.targets)

    def wait(self) -> None:
        time.sleep(self.generator.uniform(0.5, 1.5) * self.seconds)


def faketime_library() -> str | None:
    return next((str(path) for path in _LIBRARIES.glob("*/faketime/libfaketime.so.1")), None)


def kill(environment: Environment) -> None:
    """kill -9, and a restart."""
    with environment.any_target().disturbed() as server:
        server.stop(signal.SIGKILL)
        server.start()
    environment.wait()


def kill_at_step(environment: Environment) -> None:
    """kill -9 as soon as a new job has an event of some kind; after the last one, its webhook is due."""
    assert environment.load is not None
    kind = environment.generator.choice(("started", "progress", "segment", "succeeded"))
    with environment.any_target().disturbed() as server:
        id = environment.load.submit(server.url, KEYS[0], environment.generator.choice(environment.load.clips))
        if id is not None:
            wait_for_event(server.url, KEYS[0], id, f"job.{kind}")
        server.stop(signal.SIGKILL)
        server.start()
    environment.wait()


def kill_all(environment: Environment) -> None:
    """kill -9 of all servers at once."""
    for target in environment.targets:
        target.expected_to_respond = False
        target.process.stop(signal.SIGKILL)
    for target in environment.targets:
        target.process.start()
        target.expected_to_respond = True
    environment.wait()


def terminate(environment: Environment) -> None:
    """SIGTERM under load, and a restart."""
    with environment.any_target().disturbed() as server:
        server.stop(signal.SIGTERM)
        server.start()
    environment.wait()


def suspend(environment: Environment) -> None:
    """SIGSTOP for longer than a lease lasts."""
    with environment.any_target().disturbed() as server:
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(max(35.0, environment.seconds) if environment.seconds > 5 else environment.seconds)
        os.kill(server.pid, signal.SIGCONT)
        environment.wait()


def fill_disk(environment: Environment) -> None:
    """No space is left for the jobs' data."""
    assert environment.disk is not None
    filler = environment.disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    environment.wait()
    filler.unlink()
    environment.wait()


def exhaust_descriptors(environment: Environment) -> None:
    """The server may not open another file or accept another connection."""
    with environment.any_target().disturbed() as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 1, hard))
        environment.wait()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        environment.wait()


def limit_memory(environment: Environment) -> None:
    """The address space may grow by 64 MB only."""
    with environment.any_target().disturbed() as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_AS)
        size = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(server.pid, resource.RLIMIT_AS, (size + (64 << 20), hard))
        environment.wait()
        if server.running:
            resource.prlimit(server.pid, resource.RLIMIT_AS, (soft, hard))
        else:
            server.stop()
            server.start()
        environment.wait()


def replace_model(environment: Environment) -> None:
    """The directory of the model is removed while it is used, and another one takes its place."""
    model, away = environment.models_dir / "mine", environment.models_dir / "away"
    model.rename(away)
    for target in environment.targets:
        _reload(target.process.url)
    shutil.copytree(away, model)
    shutil.rmtree(away)
    for target in environment.targets:
        _reload(target.process.url)
    environment.wait()


def change_clock(environment: Environment) -> None:
    """The clock of all servers is set back or forth by an hour, and later right again."""
    assert environment.clock is not None
    environment.clock.write_text(environment.generator.choice(("-3600", "+3600")))
    environment.wait()
    environment.clock.write_text("+0")
    environment.wait()


def stop_database(environment: Environment) -> None:
    """PostgreSQL stops at once, as in a crash, and starts again."""
    assert environment.postgresql is not None
    environment.postgresql.stop()
    environment.wait()
    environment.postgresql.start()
    environment.wait()


def suspend_database(environment: Environment) -> None:
    """PostgreSQL does not respond for a while."""
    assert environment.postgresql is not None
    for process in (pids := environment.postgresql.pids()):
        os.kill(process, signal.SIGSTOP)
    environment.wait()
    for process in pids:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    environment.wait()


Fault = Callable[[Environment], None]


def available(environment: Environment) -> list[Fault]:
    faults: list[Fault] = [
        kill,
        kill_at_step,
        kill_all,
        terminate,
        suspend,
        exhaust_descriptors,
        limit_memory,
        replace_model,
    ]
    if environment.disk is not None:
        faults.append(fill_disk)
    if environment.clock is not None:
        faults.append(change_clock)
    if environment.postgresql is not None:
        faults += [stop_database, suspend_database]
    return faults


def _reload(url: str) -> None:
    with suppress(httpx2.HTTPError):
        httpx2.post(
            f"{url}/reload", json={"model_name": "mine"}, headers={"authorization": f"Bearer {KEYS[0]}"}, timeout=60
        )
