"""Audio seconds per second of many clients, compared with faster-whisper and its BatchedInferencePipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.card.bench import Bench, Model
from benchmarks.card.material import AUDIO
from benchmarks.card.results import Row, guarded_rows
from benchmarks.transcription.systems import System, start_system
from benchmarks.transcription.throughput import measure, summarise, take_clips
from benchmarks.transcription.workload import SharedOptions

_SERVER = "whisper-server|server|--no-jobs --max-requests 64 --no-autotune"
_ADAPTIVE = "whisper-server, adaptive window|server|--no-jobs --max-requests 64 --no-autotune|encoder_window=adaptive"
_PEERS = ("faster-whisper|faster-whisper|", "BatchedInferencePipeline|batched-pipeline|batch_size=8")
_LONG_SYSTEMS = (
    "faster-whisper|faster-whisper|",
    "BatchedInferencePipeline, batches of 8|batched-pipeline|batch_size=8",
    "BatchedInferencePipeline, batches of 16|batched-pipeline|batch_size=16",
    "whisper-server, mode=batched|server|--no-jobs --no-autotune --max-batch-size 16|mode=batched",
)
_CLIPS_PER_CLIENT = 4
_BEAM = 5
# Of the card's memory that is free, how much all systems together may plan.
_SHARE = 0.9
_GOAL = "a single client is at least 0.95 times as fast as with each peer, several clients are faster than with each"
_LONG_GOAL = "mode=batched is at least as fast as the best batch size of BatchedInferencePipeline"

# Clips, and the number of clients that send them.
Load: TypeAlias = "tuple[Sequence[Path], int]"


def run(bench: Bench) -> Iterator[Row]:
    for model in [*bench.real_models[-1:], *bench.random_models] if bench.on_gpu else bench.random_models:
        yield from guarded_rows(f"{model.name}, many clients", _many_clients(bench, model))
        yield from guarded_rows(f"{model.name}, a long file", _long_file(bench, model))


def _many_clients(bench: Bench, model: Model) -> Iterator[Row]:
    """Rows for each number of clients; they are written when all systems have had their turns."""
    per_client = _CLIPS_PER_CLIENT if bench.on_gpu else 1
    loads = [(take_clips(bench.clips, 0, per_client * clients), clients) for clients in bench.scale.clients]
    specs = (_SERVER, _ADAPTIVE, *_PEERS) if bench.on_gpu else (_SERVER, *_PEERS)
    rows = _compare(bench, model, specs, loads)
    for row in rows:
        peers = [other["throughput"] for other in rows if not _is_own(other) and other["clients"] == row["clients"]]
        least = 0.95 if row["clients"] == 1 else 1.0
        holds = row["throughput"] >= least * max(peers) and not row["failures"]
        yield _row(bench, f"{model.name}, {row['clients']} clients, {row['system']}", row, _GOAL, holds)


def _long_file(bench: Bench, model: Model) -> Iterator[Row]:
    """One file of a minute, as a batch of a single request."""
    file = AUDIO / ("long.flac" if bench.on_gpu else "sentences.flac")
    specs = _LONG_SYSTEMS if bench.on_gpu else _LONG_SYSTEMS[-2:]
    rows = _compare(bench, model, specs, [([file], 1)])
    best = max(row["throughput"] for row in rows if row["system"].startswith("Batched"))
    for row in rows:
        what = f"{model.name}, {file.name}, {row['system']}"
        yield _row(bench, what, row, _LONG_GOAL, row["throughput"] >= best and not row["failures"])


def _row(bench: Bench, what: str, row: dict[str, Any], goal: str, holds: bool) -> Row:
    """Goals are about our own rows. A CPU has other ones (docs/performance.md)."""
    figures = {
        "audio s/s": round(row["throughput"], 2),
        "relative": row["ratio"],
        "p50 s": row["p50"],
        "p95 s": row["p95"],
        "batch": row["batch_size"],
        "failed": row["failures"],
    }
    if not _is_own(row):
        return Row(what, figures)
    return bench.on_card(what, figures, goal=goal, holds=holds)


def _is_own(row: dict[str, Any]) -> bool:
    return str(row["system"]).startswith("whisper-server")


def _compare(bench: Bench, model: Model, specs: Sequence[str], loads: Sequence[Load]) -> list[dict[str, Any]]:
    """Medians of each system. They take turns if all fit into the memory, and run one after the other if not."""
    options = SharedOptions(
        model.path,
        _BEAM,
        device=bench.device,
        compute_type=bench.scale.types[0],
        decoding={"language": "en", **bench.decoding(model)},
    )
    if _fit_together(bench, model, len(specs)):
        return summarise(_take_turns(bench, specs, options, loads))
    return summarise([run for spec in specs for run in _take_turns(bench, [spec], options, loads)])


def _take_turns(
    bench: Bench, specs: Sequence[str], options: SharedOptions, loads: Sequence[Load]
) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        systems: list[System] = []
        for spec in specs:
            systems.append(start_system(spec, options))
            stack.callback(systems[-1].close)
            systems[-1].run(loads[-1][0][: loads[-1][1]], loads[-1][1])  # warms up
        return [run for clips, clients in loads for run in measure(systems, clips, [clients], bench.scale.rounds, {})]


def _fit_together(bench: Bench, model: Model, count: int) -> bool:
    """Whether so many copies fit, by a generous guess: four times the weights' file each."""
    weights = Path(model.path, "model.bin")
    size = weights.stat().st_size if weights.is_file() else 0
    return not bench.memory.measurable or count * 4 * size <= _SHARE * bench.memory.free()
