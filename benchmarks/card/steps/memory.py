"""How much memory do batches and clients really take, by type, compared with the plan?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.card.bench import Bench, Model
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import memory_figures, plan_holds, serve

_GOAL = (
    "with full batches of beam 5, the planned memory is within 10 % of the peak by NVML; otherwise it is not exceeded"
)
_DEFAULT_BATCH = 8


def run(bench: Bench) -> Iterator[Row]:
    for model in bench.random_models:
        for compute_type in bench.scale.types:
            for batch, clients, beam in _loads(bench):
                what = f"{model.name}, {compute_type}, batches of {batch}, {clients} clients, beam {beam}"
                yield guarded(what, partial(_row, bench, model, what, compute_type, batch, clients, beam))


def _loads(bench: Bench) -> Iterator[tuple[int, int, int]]:
    """Batch size, clients and beam: all clients for batches of the default size, otherwise as many as fill them."""
    for batch in bench.scale.batches:
        for clients in bench.scale.clients if batch == _DEFAULT_BATCH else bench.scale.clients[-1:]:
            yield batch, clients, 5
    if bench.on_gpu:
        yield bench.scale.batches[-1], bench.scale.clients[-1], 1


def _row(bench: Bench, model: Model, what: str, compute_type: str, batch: int, clients: int, beam: int) -> Row:
    served = serve(
        bench, model, ["--compute-type", compute_type, "--max-batch-size", str(batch)], clients=clients, beam=beam
    )
    full = clients >= 2 * batch and beam == 5
    fits = served.peak <= 1.1 * served.memory["planned_bytes"] and not served.failures
    return bench.on_card(what, memory_figures(bench, served), goal=_GOAL, holds=plan_holds(served) if full else fits)
