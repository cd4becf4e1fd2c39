"""How fast is each compute type, by shape and batch, and what memory does CTranslate2 itself take?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

import ctranslate2

from benchmarks.card.bench import Bench, Model
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import megabytes
from benchmarks.transcription.model_sizes import time_windows
from whisper_server.inference.hardware.cublas import load_cublas

_WINDOW_SECONDS = 30


def run(bench: Bench) -> Iterator[Row]:
    if bench.on_gpu and (problem := load_cublas()):
        yield Row("cuBLAS", note=problem)
    supported = ctranslate2.get_supported_compute_types(bench.device)
    for model in bench.random_models:
        for compute_type in bench.scale.speed_types:
            if compute_type not in supported:
                yield Row(f"{model.name}, {compute_type}", note="this device does not support it")
                continue
            for batch in (1, 8) if bench.on_gpu else (1,):
                what = f"{model.name}, {compute_type}, batches of {batch}"
                yield guarded(what, partial(_row, bench, model, what, compute_type, batch))


def _row(bench: Bench, model: Model, what: str, compute_type: str, batch: int) -> Row:
    before = bench.memory.used()
    whisper = ctranslate2.models.Whisper(model.path, device=bench.device, compute_type=compute_type)
    loaded = bench.memory.used() - before
    measure = partial(time_windows, whisper, batch=batch, tokens=bench.scale.tokens)
    measure()  # warms up
    rounds = 3 if bench.on_gpu else 1
    with bench.memory.peak() as peak:
        times = [measure() for _ in range(rounds)]
        copied = [measure(to_cpu=True) for _ in range(rounds)]
    whisper.unload_model()
    encoding, whole = (statistics.median(column) for column in zip(*times, strict=True))
    figures = {
        "encoding s": round(encoding, 4),
        "encoding, output copied to RAM s": round(statistics.median(encoded for encoded, _ in copied), 4),
        "window s": round(whole / batch, 4),
        "times real time": round(batch * _WINDOW_SECONDS / whole, 1),
    }
    if bench.memory.measurable:
        figures |= {"loaded MB": megabytes(loaded), "peak MB": megabytes(peak.bytes - before)}
    return Row(what, figures)
