"""Does --memory-limit hold while many clients send, and what does it leave of the type and the batch?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.card.bench import Bench, Model
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import megabytes, memory_figures, serve
from whisper_server.core.setting_parsers import byte_count

_CLIENTS = 16
_GOAL = "the peak by NVML stays within the limit, and no request fails"


def run(bench: Bench) -> Iterator[Row]:
    for model in bench.random_models:
        for limit in bench.scale.limits:
            what = f"{model.name}, --memory-limit {limit}"
            yield guarded(what, partial(_row, bench, model, what, limit))


def _row(bench: Bench, model: Model, what: str, limit: str) -> Row:
    served = serve(bench, model, ["--memory-limit", limit], clients=_CLIENTS if bench.on_gpu else 2)
    figures = {"limit MB": megabytes(byte_count(limit)), **memory_figures(bench, served)}
    holds = served.peak <= byte_count(limit) and not served.failures
    return bench.on_card(what, figures, goal=_GOAL, holds=holds)
