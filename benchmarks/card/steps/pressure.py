"""Another program takes and gives back the card's memory at random while clients send: does any request fail?"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

from benchmarks.card.bench import Bench, Model
from benchmarks.card.neighbour import Neighbour
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import model_state, running, send, take, unload
from benchmarks.server_process import ServerProcess

_CLIENTS = 8
_LONGEST_PAUSE = 1.5
_RECOVERY_SECONDS = 60.0
_GOAL = (
    "no request fails; the server gives up batches, beams or the type while memory is short, "
    "and has the planned type and batch again when it is free"
)


@dataclass
class Observations:
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    unloads: int = 0


def run(bench: Bench) -> Iterator[Row]:
    for allocator in bench.scale.allocators:
        what = f"{bench.largest.name}, {allocator}"
        yield guarded(what, partial(_row, bench, bench.largest, what, allocator))


def _row(bench: Bench, model: Model, what: str, allocator: str) -> Row:
    seen = Observations()
    with (
        Neighbour(on_gpu=bench.on_gpu) as neighbour,
        running(bench, model, environ={"CT2_CUDA_ALLOCATOR": allocator}) as server,
    ):
        planned = model_state(server)["memory"]
        _disturb(bench, model, server, neighbour, int(planned["planned_bytes"]), seen)
        steps_down = model_state(server)["memory"]["steps"]
        neighbour.give_back()
        recovery = _recover(bench, model, server, seen)
        after = model_state(server)["memory"]
    as_planned = (planned["planned_compute_type"], planned["planned_max_batch_size"])
    recovered = (after["compute_type"], after["max_batch_size"]) == as_planned
    figures = {
        "requests": seen.requests,
        "failed": len(seen.failures),
        "unloads": seen.unloads,
        "steps": _text(steps_down),
        "seen": _text(seen.states),
        "recovery s": round(recovery, 1),
        "afterwards": f"{after['compute_type']} × {after['max_batch_size']}",
    }
    stepped = any(steps_down.get(step) for step in ("batch", "beam", "compute_type", "cpu"))
    row = bench.on_card(what, figures, goal=_GOAL, holds=not seen.failures and stepped and recovered)
    return Row(row.what, row.figures, row.goal, row.holds, row.note, seen.failures[0] if seen.failures else "")


def _disturb(
    bench: Bench, model: Model, server: ServerProcess, neighbour: Neighbour, planned: int, seen: Observations
) -> None:
    """Between bursts of requests the weights are unloaded at times, so that they are loaded with little memory, too."""
    generator = random.Random(1)
    deadline = time.monotonic() + bench.scale.seconds
    with ThreadPoolExecutor(1) as pool:
        while time.monotonic() < deadline:
            if generator.random() < 0.5:
                unload(server)
                seen.unloads += 1
            neighbour.leave(int(generator.uniform(0, 1.2) * planned))
            burst = pool.submit(_burst, bench, model, server, seen)
            while wait([burst], generator.uniform(0.2, _LONGEST_PAUSE)).not_done:
                neighbour.leave(int(generator.uniform(0, 1.2) * planned))
                memory = model_state(server)["memory"]
                seen.states[f"{memory['device']} {memory['compute_type']} × {memory['max_batch_size']}"] += 1
            burst.result()


def _recover(bench: Bench, model: Model, server: ServerProcess, seen: Observations) -> float:
    """Send requests until the server has what it planned, or for a minute; returns the seconds."""
    started = time.monotonic()
    while time.monotonic() - started < _RECOVERY_SECONDS:
        memory = model_state(server)["memory"]
        planned = memory["planned_compute_type"], memory["planned_max_batch_size"]
        if (memory["compute_type"], memory["max_batch_size"]) == planned:
            break
        _burst(bench, model, server, seen)
    return time.monotonic() - started


def _burst(bench: Bench, model: Model, server: ServerProcess, seen: Observations) -> None:
    clients = _CLIENTS if bench.on_gpu else 2
    result = send(server, take(bench, 2 * clients), clients, bench.fields(model))
    seen.requests += len(result.clips)
    seen.failures += [clip.error for clip in result.clips if clip.error]


def _text(counts: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items() if count) or "–"
