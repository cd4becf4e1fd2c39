"""Which spread of a model's work is fastest on this machine: measured at the first start, remembered for the others."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.hardware.device import Hardware
from whisper_server.inference.hardware.malloc import release_freed_memory
from whisper_server.inference.hardware.worker_plan import BATCH_SIZE, WorkerConfig, WorkerPlan, available_cpus, is_small

logger = logging.getLogger(__name__)

# A window of 8 s and some tokens, by a beam search: enough to tell spreads apart within a second.
_FRAMES = 800
_TOKENS = 12
_BEAM_SIZE = 5
_BATCHES = (1, 4, BATCH_SIZE)

# Measurements on busy machines wander, so what is presumed stands unless something else is clearly faster.
_CLEARLY = 1.1


@dataclass(frozen=True, slots=True)
class Tuner:
    """Chooses the Workers of a model. What the operator wants stands; the rest is measured on a CPU, once.

    `cache` is the file that remembers: JSON, an object with an entry for each machine, model and wish. With `measure`
    off, or where weights are too large to be loaded again and again, what usually fits is taken.
    """

    device: Hardware
    compute_type: str
    wanted: WorkerConfig
    cache: Path
    measure: bool = True

    def workers_for(self, directory: Path) -> WorkerPlan:
        weights = (directory / "model.bin").stat().st_size
        default_plan = self.wanted.default_plan(self.device, weights)
        if self.device.kind != "cpu" or default_plan.count * default_plan.threads == 1 or not self.measure:
            return default_plan
        if not is_small(weights):
            logger.info("the weights are too large for a short measurement: taking %s", default_plan)
            return default_plan
        name = self._name(directory, weights)
        if (remembered := _as_workers(_read(self.cache).get(name))) is not None:
            return remembered
        workers = self._measured(directory)
        release_freed_memory()
        _write(self.cache, {**_read(self.cache), name: asdict(workers)})
        return workers

    def _name(self, directory: Path, weights: int) -> str:
        """What the measurement depends on."""
        machine = f"{_processor()}, {available_cpus()} CPUs, ctranslate2 {ctranslate2.__version__}"
        wish = f"{self.wanted.count}/{self.wanted.threads}/{self.wanted.max_batch_size}"
        return f"{machine}, {directory.resolve()}, {weights} bytes, {self.compute_type}, wanted {wish}"

    def _measured(self, directory: Path) -> WorkerPlan:
        started = time.monotonic()
        trials = [self._trial(directory, *spread) for spread in self.wanted.layouts()]
        first = trials[0]
        best = max(trials, key=lambda trial: trial.windows_per_second * (_CLEARLY if trial is first else 1))
        low_latency_model = min(trials, key=lambda trial: trial.low_latency_seconds)
        low_latency_threads = (
            low_latency_model.threads
            if best.low_latency_seconds > _CLEARLY * low_latency_model.low_latency_seconds
            else 0
        )
        batch = self.wanted.max_batch_size or _best_batch_size(self._open(directory, best.count, best.threads))
        found = ", ".join(map(str, trials))
        logger.info("measured in %.1f s, windows a second (alone): %s", time.monotonic() - started, found)
        return WorkerPlan(best.count, best.threads, batch, low_latency_threads)

    def _trial(self, directory: Path, count: int, threads: int) -> _Trial:
        model = self._open(directory, count, threads)
        features = _noise(model)

        def window() -> None:
            _generate(model, model.encode(features, to_cpu=True), 1)

        window()
        return _Trial(count, threads, count / _seconds(window, count), _seconds(window, 1))

    def _open(self, directory: Path, count: int, threads: int) -> ctranslate2.models.Whisper:
        return ctranslate2.models.Whisper(
            str(directory), device="cpu", compute_type=self.compute_type, inter_threads=count, intra_threads=threads
        )


@dataclass(frozen=True, slots=True)
class _Trial:
    """Windows per second with as many callers as workers, and the seconds of a window for a lone caller."""

    count: int
    threads: int
    windows_per_second: float
    low_latency_seconds: float

    def __str__(self) -> str:
        return f"{self.count} × {self.threads}: {self.windows_per_second:.1f} ({1 / self.low_latency_seconds:.1f})"


def _best_batch_size(model: ctranslate2.models.Whisper) -> int:
    """For `generate`, which reads all weights for each token, whatever the batch."""
    output = np.asarray(model.encode(_noise(model), to_cpu=True))
    seconds = {}
    for size in _BATCHES:
        stacked = StorageView.from_array(np.repeat(output, size, axis=0))
        seconds[size] = _seconds(partial(_generate, model, stacked, size), model.num_workers) / size
    return _smallest_good(seconds)


def _smallest_good(seconds_each: dict[int, float]) -> int:
    """The smallest batch that is not clearly slower than the fastest: a smaller one keeps others waiting less."""
    limit = _CLEARLY * min(seconds_each.values())
    return min(size for size, seconds in seconds_each.items() if seconds <= limit)


def _seconds(work: Callable[[], None], callers: int) -> float:
    """How long it takes so many callers at once; the better of two runs, as somebody else may work here, too."""
    with ThreadPoolExecutor(callers) as pool:
        runs = []
        for _ in range(2):
            started = time.monotonic()
            for call in [pool.submit(work) for _ in range(callers)]:
                call.result()
            runs.append(time.monotonic() - started)
    return min(runs)


def _noise(model: ctranslate2.models.Whisper) -> StorageView:
    shape = (1, model.n_mels, _FRAMES)
    return StorageView.from_array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def _generate(model: Any, output: StorageView, size: int) -> None:
    """Decode exactly so many tokens: the end of the text is suppressed."""
    end_of_text, start = 50257 - (not model.is_multilingual), 50258 - (not model.is_multilingual)
    model.generate(
        output,
        [[start]] * size,
        beam_size=_BEAM_SIZE,
        max_length=_TOKENS,
        suppress_tokens=[end_of_text],
        suppress_blank=False,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _as_workers(entry: Any) -> WorkerPlan | None:
    try:
        return WorkerPlan(**entry)
    except TypeError:
        return None


def _read(cache: Path) -> dict[str, Any]:
    """What is remembered; nothing of a file that is missing or damaged."""
    try:
        found = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(cache: Path, entries: dict[str, Any]) -> None:
    """Replace the file in one step, as several servers may start together; where nothing can be written, go on."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:
            json.dump(entries, file, indent=1)
        os.replace(file.name, cache)
    except OSError as exc:
        logger.warning("the measurement cannot be kept, so the next start measures again: %s", exc)
