"""A simulated GPU: it enforces a memory budget, raises CTranslate2's errors, and computes on the CPU.

Memory costs come from published figures, not from the planner: faster-whisper's README (large-v2 with a beam size of 5
takes 2926 MB in int8 and 4525 MB in float16, 4500 and 6090 MB in batches of 8) and OpenAI's table of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel

from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import fallback_types
from whisper_server.inference.hardware.memory_plan import Dimensions, Memory
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.idle_policy import IdlePolicy
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

MB = 2**20
GB = 1_000_000_000
TEXTS = (
    "CUDA failed with error out of memory",
    "CUDA out of memory",
    "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED",
    "cuBLAS failed with status CUBLAS_STATUS_NOT_INITIALIZED",
)
TYPES = {"float16", "float32", "int8", "int8_float16"}


@dataclass(frozen=True)
class Costs:
    """The memory costs, in bytes, of a model with so many parameters and decoder layers."""

    parameters: float
    decoder_layers: int

    context: int = 400 * MB

    def weights(self, compute_type: str) -> int:
        return int(self.parameters * {"float32": 4, "float16": 2, "bfloat16": 2}.get(compute_type, 1))

    def work(self, compute_type: str, batch: int, beam: int = 5) -> int:
        """Return the temporary bytes of a batch: for large-v2, the published figures minus weights and context."""
        total = {"float32": 4525, "float16": 4525}.get(compute_type, 2926) * MB
        large = Costs(1550e6, 32)
        fixed = total - large.weights("float16" if total > 4000 * MB else "int8") - self.context - 225 * MB
        scale = (self.parameters / large.parameters) ** 0.5
        window = 225 * MB * scale * self.decoder_layers / 32 * (5 + min(beam, 5)) / 10
        factor = 2 if compute_type == "float32" else 1
        return int(factor * (fixed * scale + batch * window))

    def peak(self, compute_type: str, batch: int) -> int:
        return self.context + self.weights(compute_type) + self.work(compute_type, batch)


LARGE = Costs(1550e6, 32)
DIMENSIONS = Dimensions(1280, 32, 32)


class FakeDevice:
    """A device whose computations run on the model `real`.

    Another program holds `neighbour` bytes, and takes `neighbour_growth` more when weights are loaded. `before_call` is
    called before every call of the model.
    """

    def __init__(self, real: WhisperModel, costs: Costs, budget: int, *, kind: str = "cuda", gpus: int = 1) -> None:
        self.kind = kind
        self.real = real
        self.costs = costs
        self.budget = budget
        self.gpus = gpus
        self.neighbour = self.neighbour_growth = 0
        self.fallback: FakeDevice | None = None
        self.before_call: Callable[[], None] = lambda: None
        self.opened: list[str] = []
        self.batches: list[int] = []
        self.models: list[FakeWhisper] = []
        self.peak = 0
        self._texts = cycle(TEXTS)
        self._context = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:0"

    @property
    def own(self) -> int:
        return self._context + sum(model.resident for model in self.models)

    def memory(self) -> Memory:
        return Memory(max(0, self.budget - self.own - self.neighbour), self.budget)

    def used_bytes(self) -> int:
        return self.own + self.neighbour

    def compute_types(self, requested: str) -> tuple[str, ...]:
        return fallback_types(self.kind, TYPES, requested, self)

    def allocate(self, size: int) -> None:
        """Raise RuntimeError if so many bytes are not free."""
        if self.memory().free < size:
            raise RuntimeError(next(self._texts))
        self.peak = max(self.peak, self.own + size)

    def open(self, directory: Path, compute_type: str, *, workers: int, threads: int) -> WhisperModel:
        self.neighbour, self.neighbour_growth = self.neighbour + self.neighbour_growth, 0
        self.allocate(self.costs.context - self._context)
        self._context = self.costs.context  # never freed, as with CUDA
        whisper = copy(self.real)
        whisper.model = FakeWhisper(self, compute_type, workers)
        self.opened.append(compute_type)
        return whisper


class FakeWhisper:
    """Behaves like a `ctranslate2.models.Whisper` on that device."""

    def __init__(self, device: FakeDevice, compute_type: str, workers: int) -> None:
        self._device = device
        self._real = device.real.model
        self.compute_type = compute_type
        self.device = device.kind
        self.num_workers = workers * device.gpus
        self.device_index = list(range(device.gpus))
        self.model_is_loaded = False
        self.resident = 0
        device.models.append(self)
        self.load_model()

    def load_model(self) -> None:
        if not self.model_is_loaded:
            size = self._device.costs.weights(self.compute_type)
            self._device.allocate(size)
            self.resident, self.model_is_loaded = size, True

    def unload_model(self, to_cpu: bool = False) -> None:
        if not (to_cpu and self.device == "cpu"):
            self.resident, self.model_is_loaded = 0, False

    def __getattr__(self, name: str) -> Any:
        if not self.model_is_loaded:
            raise RuntimeError("No model replica is available in this thread")
        return getattr(self._real, name)

    def _work(self, batch: int, beam: int = 1) -> None:
        self._device.before_call()
        if not self.model_is_loaded:
            raise RuntimeError("The model for this whisper was unloaded")
        self._device.allocate(self._device.costs.work(self.compute_type, batch, beam))
        self._device.batches.append(batch)

    def encode(self, features: Any, to_cpu: bool = False) -> Any:
        self._work(features.shape[0])
        return self._real.encode(features, to_cpu=to_cpu)

    def generate(self, features: Any, prompts: Sequence[Any], **options: Any) -> Any:
        self._work(len(prompts), options.get("beam_size", 1))
        return self._real.generate(features, prompts, **options)

    def detect_language(self, features: Any) -> Any:
        self._work(features.shape[0])
        return self._real.detect_language(features)

    def align(self, features: Any, *arguments: Any, **options: Any) -> Any:
        self._work(features.shape[0])
        return self._real.align(features, *arguments, **options)


def loader_for(gpu: FakeDevice, *, fallback: bool = False) -> ModelLoader:
    """Return a loader that plans for large-v2 on that GPU, whatever it loads."""
    types = gpu.compute_types("auto")
    tuner = Tuner(gpu, types[0], WorkerConfig(), cache=Path("unused"), measure=False)
    if fallback:
        gpu.fallback = FakeDevice(gpu.real, gpu.costs, 100 * GB, kind="cpu")
    return ModelLoader(tuner, types=types, fallback=gpu.fallback, dimensions=lambda weights: DIMENSIONS)


def manager_for(
    gpu: FakeDevice, models_dir: Path, *, fallback: bool = False, idle_policy: IdlePolicy | None = None
) -> ModelManager:
    """Return a manager that can load tiny.en, which costs as much memory on the GPU as large-v2."""
    packages = PackagedModels(PACKAGES, cache_dir=models_dir)
    resolver = ModelResolver(models_dir=models_dir, packages=packages, offline=True)
    return ModelManager(resolver, loader_for(gpu, fallback=fallback), idle_policy=idle_policy)
