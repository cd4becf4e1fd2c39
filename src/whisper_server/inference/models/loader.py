"""Plans a model's memory, loads the model and tries it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from whisper_server.core.errors import ModelLoadFailed, OutOfMemory
from whisper_server.inference.audio.features import BlockwiseFeatureExtractor
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Hardware
from whisper_server.inference.hardware.memory_plan import Dimensions, MemoryEstimator, Plan, choose_plan
from whisper_server.inference.hardware.worker_plan import WorkerPlan
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.models.model_names import public_id
from whisper_server.inference.models.resolver import check_complete
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff
from whisper_server.inference.runtime.weights import Placement, Weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelLoader:
    """Tries the compute `types` in order, within `memory_limit` bytes (0: all), and then the `fallback` device.

    By default the only type is the tuner's.
    """

    tuner: Tuner
    _: KW_ONLY
    types: tuple[str, ...] = ()
    memory_limit: int = 0
    fallback: Hardware | None = None
    dimensions: Callable[[Path], Dimensions | None] = Dimensions.read

    def fits_beside(self, directory: Path, reserved: int) -> bool:
        """Whether the model fits, in its best compute type, beside other models that take so many bytes."""
        workers = self.tuner.workers_for(directory)
        beside, alone = self._plan(directory, workers, reserved), self._plan(directory, workers, 0, returned=reserved)
        return beside.fits and beside.compute_type == alone.compute_type

    def plan(self, directory: Path, *, reserved: int = 0) -> tuple[WorkerPlan, Plan]:
        """Return how `load` would load the model now; if memory is short, the low-latency copy is dropped first."""
        workers = self.tuner.workers_for(directory)
        plan = self._plan(directory, workers, reserved)
        if not plan.fits and workers.low_latency_threads:
            workers = replace(workers, low_latency_threads=0)
            plan = self._plan(directory, workers, reserved)
        return workers, plan

    def load(self, name: str, directory: Path, *, reserved: int = 0) -> LoadedModel:
        """Load the model and transcribe one window of silence with it; raises ModelLoadFailed or OutOfMemory.

        `reserved` bytes of the memory limit belong to other models.
        """
        logger.info("loading %s from %s", name, directory)
        id = public_id(name)  # clients read the errors and must not learn the path
        check_complete(id, directory)
        try:
            workers, plan = self.plan(directory, reserved=reserved)
            logger.info("plan for %s on %s: %s", name, self.tuner.device, plan)
            started, before = time.monotonic(), self.tuner.device.used_bytes()
            model = self._load_and_warm_up(name, directory, workers, plan)
        except OutOfMemory:
            raise
        except Exception as exc:
            reason = str(exc).replace(str(directory), id)
            raise ModelLoadFailed(f"model {id!r} could not be loaded: {reason}") from exc
        model.memory = max(0, self.tuner.device.used_bytes() - before)
        logger.info("loaded %s in %.1f s, %s", model, time.monotonic() - started, workers)
        if workers.low_latency_threads:
            model.run_in_background(partial(self._load_low_latency_model, model))
        return model

    @property
    def _types(self) -> tuple[str, ...]:
        return self.types or (self.tuner.compute_type,)

    def _plan(self, directory: Path, workers: WorkerPlan, reserved: int, *, returned: int = 0) -> Plan:
        """Plan for the free memory plus what other models would return; without dimensions nothing is estimated."""
        dimensions = self.dimensions(directory / "model.bin")
        if dimensions is None:
            return Plan(self._types[0], workers.max_batch_size, 0, None)
        memory = self.tuner.device.memory()
        limits = [memory.free + returned] if memory is not None else []
        limits += [self.memory_limit - reserved] if self.memory_limit else []
        return choose_plan(dimensions, self._estimator(workers), self._types, max(0, min(limits)) if limits else None)

    def _estimator(self, workers: WorkerPlan) -> MemoryEstimator:
        copies = 2 if workers.low_latency_threads else 1
        return MemoryEstimator(self.tuner.device.kind != "cpu", workers.max_batch_size, workers.count, copies)

    def _placements(self, directory: Path, workers: WorkerPlan, plan: Plan) -> list[Placement]:
        """Return the fallback chain: the planned type, the smaller ones, then the fallback device."""
        types = self._types[self._types.index(plan.compute_type) :]
        targets = [(self.tuner.device, compute_type) for compute_type in types]
        if self.fallback is not None:
            targets.append((self.fallback, self.fallback.compute_types("auto")[0]))
        dimensions = self.dimensions(directory / "model.bin")
        if dimensions is None:
            return [Placement(*target) for target in targets]
        estimator = self._estimator(workers)
        return [
            Placement(
                device,
                compute_type,
                needed=estimator.peak_bytes(dimensions, compute_type, 1) - estimator.context_bytes,
                weights=dimensions.weight_bytes(compute_type),
                window=dimensions.window_bytes(compute_type),
            )
            for device, compute_type in targets
        ]

    def _load_and_warm_up(self, name: str, directory: Path, workers: WorkerPlan, plan: Plan) -> LoadedModel:
        backoff = MemoryBackoff(max_batch_size=plan.batch)
        weights = Weights(directory, self._placements(directory, workers, plan), workers, backoff)
        # Without a preprocessor_config.json faster-whisper assumes 80 mels, but large-v3 has 128.
        whisper = weights.whisper
        mels = {"feature_size": whisper.model.n_mels}
        whisper.feature_extractor = BlockwiseFeatureExtractor(**{**whisper.feat_kwargs, **mels})
        model = LoadedModel(name, weights, backoff, plan)
        try:
            _warm_up(model.whisper_for(RequestContext()))
        except BaseException:
            model.close()
            raise
        return model

    def _load_low_latency_model(self, model: LoadedModel) -> None:
        before = self.tuner.device.used_bytes()
        model.weights.load_low_latency_model()
        model.memory += max(0, self.tuner.device.used_bytes() - before)


def _warm_up(whisper: WhisperModel) -> None:
    second = np.zeros(whisper.feature_extractor.sampling_rate, np.float32)
    segments, _ = whisper.transcribe(second, language="en", beam_size=1, temperature=0.0)
    list(segments)
