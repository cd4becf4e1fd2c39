"""Plans a model's memory, loads it, and tries it before it counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from whisper_server.core.errors import ModelIncomplete, ModelLoadFailed, OutOfMemory
from whisper_server.inference.audio.features import PiecewiseFeatureExtractor
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Hardware
from whisper_server.inference.hardware.memory_plan import Dimensions, Load, Plan
from whisper_server.inference.hardware.memory_plan import plan as best_plan
from whisper_server.inference.hardware.worker_plan import WorkerPlan
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff
from whisper_server.inference.runtime.weights import Placement, Weights

logger = logging.getLogger(__name__)

_NEEDED = ("model.bin", "config.json", "tokenizer.json")


class ModelLoader:
    """Tries the types from the best to the smallest, within `memory_limit` bytes (0: all), and then `fallback`."""

    def __init__(
        self,
        tuner: Tuner,
        *,
        types: Sequence[str] = (),
        memory_limit: int = 0,
        fallback: Hardware | None = None,
        dimensions: Callable[[Path], Dimensions | None] = Dimensions.read,
    ) -> None:
        self._device = tuner.device
        self._types = tuple(types) or (tuner.compute_type,)
        self._tuner = tuner
        self._memory_limit = memory_limit
        self._fallback = fallback
        self._dimensions = dimensions

    def fits_beside(self, directory: Path, taken: int) -> bool:
        """Whether the model gets beside others, which take so many bytes, what it would get without them."""
        workers = self._tuner.workers_for(directory)
        beside, alone = self._plan(directory, workers, taken), self._plan(directory, workers, 0, returned=taken)
        return beside.fits and beside.compute_type == alone.compute_type

    def plan(self, directory: Path, *, taken: int = 0) -> tuple[WorkerPlan, Plan]:
        """Return how it would be loaded now; a copy for lone callers is the first thing to go without."""
        workers = self._tuner.workers_for(directory)
        plan = self._plan(directory, workers, taken)
        if not plan.fits and workers.low_latency_threads:
            workers = replace(workers, low_latency_threads=0)
            plan = self._plan(directory, workers, taken)
        return workers, plan

    def load(self, name: str, directory: Path, *, taken: int = 0) -> LoadedModel:
        """Load the directory and transcribe one window of silence with it; raises ModelLoadFailed or OutOfMemory.

        Of what is allowed, so many bytes are taken by others.
        """
        logger.info("loading %s from %s", name, directory)
        missing = [file for file in _NEEDED if not (directory / file).is_file()]
        if missing:
            raise ModelIncomplete(f"model {name!r} is incomplete: it has no {', '.join(missing)}")
        try:
            workers, plan = self.plan(directory, taken=taken)
            logger.info("plan for %s on %s: %s", name, self._device, plan)
            started, before = time.monotonic(), self._device.used_bytes()
            model = self._tried(name, directory, workers, plan)
        except OutOfMemory:
            raise
        except Exception as exc:
            reason = str(exc).replace(str(directory), name)  # clients read it, and the path is not theirs to know
            raise ModelLoadFailed(f"model {name!r} could not be loaded: {reason}") from exc
        model.memory = max(0, self._device.used_bytes() - before)
        logger.info("loaded %s in %.1f s, %s", model, time.monotonic() - started, workers)
        if workers.low_latency_threads:
            model.later(partial(self._load_low_latency_model, model))
        return model

    def _plan(self, directory: Path, workers: WorkerPlan, taken: int, *, returned: int = 0) -> Plan:
        """For what is free, and the bytes that others would return; without dimensions there is nothing to count."""
        dimensions = self._dimensions(directory / "model.bin")
        if dimensions is None:
            return Plan(self._types[0], workers.max_batch_size, 0, None)
        memory = self._device.memory()
        rooms = [memory.free + returned] if memory is not None else []
        rooms += [self._memory_limit - taken] if self._memory_limit else []
        return best_plan(dimensions, self._load(workers), self._types, max(0, min(rooms)) if rooms else None)

    def _load(self, workers: WorkerPlan) -> Load:
        copies = 2 if workers.low_latency_threads else 1
        return Load(self._device.kind != "cpu", workers.max_batch_size, workers.count, copies)

    def _placements(self, directory: Path, workers: WorkerPlan, plan: Plan) -> list[Placement]:
        """From the planned type to the smallest, then the fallback."""
        types = self._types[self._types.index(plan.compute_type) :]
        places = [(self._device, compute_type) for compute_type in types]
        if self._fallback is not None:
            places.append((self._fallback, self._fallback.compute_types("auto")[0]))
        dimensions = self._dimensions(directory / "model.bin")
        if dimensions is None:
            return [Placement(*place) for place in places]
        load = self._load(workers)
        return [self._placement(device, compute_type, load, dimensions) for device, compute_type in places]

    def _placement(self, device: Hardware, compute_type: str, load: Load, dimensions: Dimensions) -> Placement:
        return Placement(
            device,
            compute_type,
            needed=load.needed(dimensions, compute_type, 1) - load.context,
            weights=dimensions.weights(compute_type),
            window=dimensions.window(compute_type),
        )

    def _tried(self, name: str, directory: Path, workers: WorkerPlan, plan: Plan) -> LoadedModel:
        """A model that has transcribed a window."""
        backoff = MemoryBackoff(max_batch_size=plan.batch)
        weights = Weights(directory, self._placements(directory, workers, plan), workers, backoff)
        # Without a preprocessor_config.json faster-whisper assumes 80 mels, and large-v3 has 128.
        whisper = weights.whisper
        mels = {"feature_size": whisper.model.n_mels}
        whisper.feature_extractor = PiecewiseFeatureExtractor(**{**whisper.feat_kwargs, **mels})
        model = LoadedModel(name, weights, backoff, plan)
        try:
            _warm_up(model.whisper_for(RequestContext()))
        except BaseException:
            model.close()
            raise
        return model

    def _load_low_latency_model(self, model: LoadedModel) -> None:
        """While the port is open already."""
        before = self._device.used_bytes()
        model.weights.load_low_latency_model()
        model.memory += max(0, self._device.used_bytes() - before)


def _warm_up(whisper: WhisperModel) -> None:
    second = np.zeros(whisper.feature_extractor.sampling_rate, np.float32)
    segments, _ = whisper.transcribe(second, language="en", beam_size=1, temperature=0.0)
    list(segments)
