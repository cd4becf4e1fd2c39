"""Does an idle or unloaded model give its memory back, and how long does the next request then take?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.card.bench import Bench, Model
from benchmarks.card.material import AUDIO
from benchmarks.card.results import NEEDS_CARD, Row, guarded_rows
from benchmarks.card.served import megabytes, model_state, running, send, take, unload
from benchmarks.server_process import ServerProcess

# Seconds until the weights are offloaded, and released. On a CPU they cannot be offloaded.
_IDLE_ON_GPU, _IDLE_ON_CPU = (3, 9), (0, 1)
_PATIENCE = 30.0
# The CUDA context and its libraries, which a process keeps.
_CONTEXT = 700e6
_FROM_RAM, _FROM_DISK = 5.0, 20.0


def run(bench: Bench) -> Iterator[Row]:
    for allocator in bench.scale.allocators:
        yield from guarded_rows(f"{bench.largest.name}, {allocator}", _measure(bench, bench.largest, allocator))


def _measure(bench: Bench, model: Model, allocator: str) -> Iterator[Row]:
    idle_unload, idle_release = _IDLE_ON_GPU if bench.on_gpu else _IDLE_ON_CPU
    flags = ("--idle-unload", str(idle_unload), "--idle-release", str(idle_release))
    before = bench.memory.used()
    with running(bench, model, *flags, environ={"CT2_CUDA_ALLOCATOR": allocator}) as server:
        clients = 8 if bench.on_gpu else 2
        send(server, take(bench, 2 * clients), clients, bench.fields(model))
        warm = _first_word(bench, model, server)
        yield Row(
            f"{model.name}, {allocator}, warm",
            {**_held(bench, bench.memory.used() - before), "next request s": round(warm, 2)},
        )
        after = partial(_after, bench, model, server, before, warm)
        if bench.on_gpu:
            yield after(f"{model.name}, {allocator}, --idle-unload", "parked", _FROM_RAM)
        else:
            yield Row(f"{model.name}, {allocator}, --idle-unload", note=NEEDS_CARD)
        yield after(f"{model.name}, {allocator}, --idle-release", "released", _FROM_DISK)
        unload(server)
        yield after(f"{model.name}, {allocator}, POST /unload", "released", _FROM_DISK)


def _after(
    bench: Bench, model: Model, server: ServerProcess, before: int, warm: float, what: str, state: str, most: float
) -> Row:
    """Wait until the weights are in this state, then read the memory and time a request."""
    _wait_for(server, state)
    held = bench.memory.used() - before
    seconds = _first_word(bench, model, server)
    figures = {**_held(bench, held), "next request s": round(seconds, 2), "more than warm s": round(seconds - warm, 2)}
    goal = (
        f"at most {megabytes(_CONTEXT)} MB stay on the card, and the next request takes at most {_FROM_RAM:g} s longer "
        f"from RAM, {_FROM_DISK:g} s from disk"
    )
    return bench.on_card(what, figures, goal=goal, holds=held <= _CONTEXT and seconds - warm <= most)


def _held(bench: Bench, held: int) -> dict[str, int]:
    """The figure for the memory that the server holds, if it can be measured."""
    return {"held MB": megabytes(held)} if bench.memory.measurable else {}


def _wait_for(server: ServerProcess, state: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (now := model_state(server)["state"]) != state:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the weights are {now} after {_PATIENCE:g} s, not {state}")
        time.sleep(0.1)


def _first_word(bench: Bench, model: Model, server: ServerProcess) -> float:
    """Return the seconds of a request for a clip of 3 s; raises RuntimeError if it fails."""
    (clip,) = send(server, [AUDIO / "short.flac"], 1, bench.fields(model)).clips
    if clip.error:
        raise RuntimeError(clip.error)
    return clip.seconds
