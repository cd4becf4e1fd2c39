"""Measures which worker layout is fastest for a model on this machine's CPUs, once, and caches the result."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
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

# An 8 s window and 12 tokens: enough to tell the layouts apart within a second.
_FRAMES = 800
_TOKENS = 12
_BEAM_SIZE = 5
_BATCH_SIZES = (1, 4, BATCH_SIZE)

# Timings vary on a busy machine, so only a difference of 10 % or more counts.
_MIN_SPEEDUP = 1.1

# The fields of a WorkerPlan, in order, in the cache file.
_CACHE_KEYS = ("count", "threads", "max_batch_size", "lone_threads")


@dataclass(frozen=True, slots=True)
class Tuner:
    """Chooses the workers of a model: the operator's settings as they are, the others by a measurement on the CPU.

    `cache` is a JSON file with one entry for each combination of machine, model and settings. Without `measure`, on a
    GPU and for large weights, the default plan is used.
    """

    device: Hardware
    compute_type: str
    config: WorkerConfig
    cache: Path
    measure: bool = True

    def workers_for(self, directory: Path) -> WorkerPlan:
        """Return the workers for the model in this directory; the first call for a model takes some seconds."""
        weight_bytes = (directory / "model.bin").stat().st_size
        default_plan = self.config.default_plan(self.device, weight_bytes)
        if self.device.kind != "cpu" or default_plan.count * default_plan.threads == 1 or not self.measure:
            return default_plan
        if not is_small(weight_bytes):
            logger.info("the weights are too large for a short measurement: using %s", default_plan)
            return default_plan
        key = self._cache_key(directory, weight_bytes)
        if (cached := _plan_from(_read(self.cache).get(key))) is not None:
            return cached
        workers = self._fastest_plan(directory)
        release_freed_memory()
        _write(self.cache, {**_read(self.cache), key: dict(zip(_CACHE_KEYS, astuple(workers), strict=True))})
        return workers

    def _cache_key(self, directory: Path, weight_bytes: int) -> str:
        """Name everything that the measurement depends on."""
        machine = f"{_processor()}, {available_cpus()} CPUs, ctranslate2 {ctranslate2.__version__}"
        settings = f"{self.config.count}/{self.config.threads}/{self.config.max_batch_size}"
        return f"{machine}, {directory.resolve()}, {weight_bytes} bytes, {self.compute_type}, wanted {settings}"

    def _fastest_plan(self, directory: Path) -> WorkerPlan:
        started = time.monotonic()
        trials = [self._trial(directory, *layout) for layout in self.config.layouts()]
        default = trials[0]
        best = max(trials, key=lambda trial: trial.windows_per_second * (_MIN_SPEEDUP if trial is default else 1))
        quickest = min(trials, key=lambda trial: trial.single_window_seconds)
        needs_copy = best.single_window_seconds > _MIN_SPEEDUP * quickest.single_window_seconds
        batch = self.config.max_batch_size or _best_batch_size(self._open(directory, best.count, best.threads))
        results = ", ".join(map(str, trials))
        logger.info("measured in %.1f s, windows/s (single request): %s", time.monotonic() - started, results)
        return WorkerPlan(best.count, best.threads, batch, quickest.threads if needs_copy else 0)

    def _trial(self, directory: Path, count: int, threads: int) -> _Trial:
        model = self._open(directory, count, threads)
        features = _noise(model)

        def transcribe_window() -> None:
            _generate(model, model.encode(features, to_cpu=True), 1)

        transcribe_window()
        return _Trial(count, threads, count / _seconds(transcribe_window, count), _seconds(transcribe_window, 1))

    def _open(self, directory: Path, count: int, threads: int) -> ctranslate2.models.Whisper:
        return ctranslate2.models.Whisper(
            str(directory), device="cpu", compute_type=self.compute_type, inter_threads=count, intra_threads=threads
        )


@dataclass(frozen=True, slots=True)
class _Trial:
    """The throughput of a layout with every worker busy, and the latency of one window on an idle server."""

    count: int
    threads: int
    windows_per_second: float
    single_window_seconds: float

    def __str__(self) -> str:
        return f"{self.count} × {self.threads}: {self.windows_per_second:.1f} ({1 / self.single_window_seconds:.1f})"


def _best_batch_size(model: ctranslate2.models.Whisper) -> int:
    """Return the smallest batch size about as fast as the fastest: other requests wait less behind a small batch.

    Only `generate` is timed, which reads all weights for each token, whatever the batch size.
    """
    output = np.asarray(model.encode(_noise(model), to_cpu=True))
    seconds_per_window = {}
    for size in _BATCH_SIZES:
        stacked = StorageView.from_array(np.repeat(output, size, axis=0))
        seconds_per_window[size] = _seconds(partial(_generate, model, stacked, size), model.num_workers) / size
    limit = _MIN_SPEEDUP * min(seconds_per_window.values())
    return min(size for size, seconds in seconds_per_window.items() if seconds <= limit)


def _seconds(work: Callable[[], None], callers: int) -> float:
    """Return how long `callers` concurrent calls take: the better of two runs, as other programs may be busy."""
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
    """Decode exactly _TOKENS tokens: the end-of-text token is suppressed."""
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


def _plan_from(entry: Any) -> WorkerPlan | None:
    """Return the plan of a cache entry, or None if the entry is missing or unusable."""
    try:
        return WorkerPlan(*(entry[key] for key in _CACHE_KEYS))
    except (TypeError, KeyError):
        return None


def _read(cache: Path) -> dict[str, Any]:
    """Return the cached entries, or none if the file is missing or damaged."""
    try:
        entries = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write(cache: Path, entries: dict[str, Any]) -> None:
    """Replace the file atomically, as several servers may start together; a failure is only logged."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:
            json.dump(entries, file, indent=1)
        os.replace(file.name, cache)
    except OSError as exc:
        logger.warning("the measurement cannot be saved, so the next start repeats it: %s", exc)
