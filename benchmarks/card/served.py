"""whisper-server on the card: starting it, sending clips, and what it says about its memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.card.bench import Bench, Model
from benchmarks.server_process import ServerProcess
from benchmarks.transcription.systems import recognise
from benchmarks.transcription.workload import RunResult, transcribe_clips

MB = 1e6
_TIMEOUT = 300
_CPU_FLAGS = ("--no-autotune",)


@dataclass(frozen=True)
class Served:
    """What `serve` measured; memory is in bytes, and 0 on a CPU."""

    start_seconds: float
    loaded: int
    peak: int
    memory: Mapping[str, Any]
    result: RunResult

    @property
    def failures(self) -> list[str]:
        return [clip.error for clip in self.result.clips if clip.error]


@contextmanager
def running(
    bench: Bench, model: Model, *flags: str, environ: Mapping[str, str] | None = None, device: str = ""
) -> Iterator[ServerProcess]:
    """A server of this model, without jobs."""
    command = ["--model", model.path, "--device", device or bench.device, "--no-jobs", *flags]
    command += [] if bench.on_gpu else _CPU_FLAGS
    with ServerProcess(*command, environ=environ, log_lines=None) as server:
        yield server


def serve(bench: Bench, model: Model, flags: Sequence[str], *, clients: int, beam: int = 5) -> Served:
    """Start a server, let each of the clients send two clips, and stop it."""
    before, started = bench.memory.used(), time.monotonic()
    with bench.memory.peak() as peak, running(bench, model, *flags) as server:
        start_seconds, loaded = time.monotonic() - started, bench.memory.used() - before
        result = send(server, take(bench, 2 * clients), clients, bench.fields(model, beam=beam))
        memory = model_state(server)["memory"]
    return Served(start_seconds, loaded, peak.bytes - before, memory, result)


def send(server: ServerProcess, clips: Sequence[Path], clients: int, fields: Mapping[str, str]) -> RunResult:
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT, limits=httpx2.Limits(max_connections=None)) as client:
        return transcribe_clips(lambda content: recognise(client, content, fields)["text"], clips, clients)


def take(bench: Bench, count: int) -> list[Path]:
    """So many clips; they repeat if there are too few."""
    return list(islice(cycle(bench.clips), count))


def model_state(server: ServerProcess) -> dict[str, Any]:
    """What GET /v1/models says about the model."""
    state: dict[str, Any] = httpx2.get(f"{server.url}/v1/models", timeout=_TIMEOUT).raise_for_status().json()["data"][0]
    return state


def unload(server: ServerProcess) -> None:
    httpx2.post(f"{server.url}/unload", timeout=_TIMEOUT).raise_for_status()


def megabytes(count: float) -> int:
    return round(count / MB)


def memory_figures(bench: Bench, served: Served) -> dict[str, Any]:
    """The planned memory, and the measured one on a card."""
    planned = served.memory["planned_bytes"]
    figures: dict[str, Any] = {
        "type": served.memory["compute_type"],
        "batch": served.memory["max_batch_size"],
        "planned MB": megabytes(planned),
    }
    if bench.memory.measurable:
        figures |= {"loaded MB": megabytes(served.loaded), "peak MB": megabytes(served.peak)}
        figures["planned / peak"] = round(planned / max(1, served.peak), 3)
    return {**figures, "failed requests": len(served.failures)}


def plan_holds(served: Served) -> bool:
    """Whether the plan is within 10 % of the peak and no request failed."""
    return abs(served.memory["planned_bytes"] / max(1, served.peak) - 1) <= 0.1 and not served.failures
