"""Administration of the models: which are loaded, their state, loading and unloading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import get_args

from anyio import CapacityLimiter, to_thread

from whisper_server.inference.models.catalogue import OPENAI_NAME
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.weights import WeightState
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.sequential import languages_of

WEIGHT_STATES: tuple[WeightState, ...] = get_args(WeightState)


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """Where a model runs now, what was planned for it, and how often each step of the fallback chain was taken.

    `planned_bytes` and `free_bytes` are those of the plan; `free_bytes` is None if the device does not report it.
    """

    device: str
    compute_type: str
    max_batch_size: int
    planned_compute_type: str
    planned_max_batch_size: int
    planned_bytes: int
    free_bytes: int | None
    steps: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as it is now. `id` is its name for clients, or another name of the model with the id `alias_of`.

    `loaded_at` is in seconds since 1970; a model that loads with the first request has 0 and no `memory`.
    """

    id: str
    state: WeightState
    loaded_at: int = 0
    in_use: bool = False
    memory: MemoryInfo | None = None
    alias_of: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the current model: name, device, types, state, fallback steps. Of all loaded models together: the rest.

    `memory` is in bytes; `queued` counts waiting calls, `calls` those that ran in `batches` batches.
    """

    model: str
    device: str = ""
    compute_type: str = ""
    memory: int = 0
    queued: int = 0
    batches: int = 0
    calls: int = 0
    crashes: int = 0
    weight_state: WeightState = "released"
    steps: Mapping[str, int] = field(default_factory=dict)


class ModelAdmin:
    """The asynchronous side of ModelManager. One model is loaded at a time."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._reloads = CapacityLimiter(1)
        self._unloads = CapacityLimiter(1)

    @property
    def name(self) -> str:
        """The id of the served model."""
        return self._manager.name

    @property
    def ready(self) -> bool:
        """Whether requests are served, if necessary after loading the model."""
        return all(model.batcher.healthy for model in self._manager.loaded[:1])

    @property
    def loading(self) -> str:
        """The name of the model that is being loaded, or an empty string."""
        return self._manager.loading or (self.name if self._manager.weight_state == "loading" else "")

    def languages(self, name: str) -> list[str]:
        """Return the codes of the languages of the loaded model of that name; raises ModelNotFound.

        For the model that loads with the first request, they follow from its name.
        """
        if not self._manager.loaded and name == self.name:
            return ["en"] if name.endswith(".en") else list(NAMES)
        return languages_of(self._manager.find(name).whisper_for(RequestContext()))

    def list(self) -> list[ModelInfo]:
        """Return the loaded models, the served one first, or the one that loads with the first request.

        The last one is OpenAI's name for the served model: clients offer their users what is in the list.
        """
        models = [_info(model) for model in self._manager.loaded] or [self._pending()]
        has_openai_name = any(model.id == OPENAI_NAME for model in models)
        return models if has_openai_name else [*models, _alias(models[0])]

    def get(self, name: str) -> ModelInfo:
        """Return the loaded model of that name; no name is the served one. Raises ModelNotFound."""
        model = self._pending() if self._manager.is_pending(name) else _info(self._manager.find(name))
        return _alias(model) if name == OPENAI_NAME != model.id else model

    def is_loaded(self, name: str) -> bool:
        return self._manager.is_loaded(name)

    def id_of(self, name: str) -> str:
        """Return the id of the model that serves requests for that name; raises ModelNotFound."""
        return self._manager.id_for(name)

    def preload(self) -> None:
        """Start loading the served model in a thread, if it is not loaded."""
        if self._manager.weight_state in ("parked", "released"):
            Thread(target=self._manager.preload, name="load the model", daemon=True).start()

    async def reload(self, name: str) -> ModelInfo:
        """Load that model and serve it from now on; running requests finish on the one that they have.

        Raises ModelNotFound, ModelUnavailable, ModelLoadFailed or OutOfMemory; then the old model goes on serving.
        """
        return _info(await to_thread.run_sync(self._manager.reload, name, limiter=self._reloads))

    async def unload(self, name: str) -> str:
        """Unload a model that was loaded on demand and return its id; raises ModelNotFound or ModelIsServed."""
        return await to_thread.run_sync(self._manager.unload, name, limiter=self._unloads)

    async def release(self, name: str) -> ModelInfo:
        """Free a model's weights, after the requests that use them, until the next request; raises ModelNotFound."""
        model = await to_thread.run_sync(self._manager.release, name, limiter=self._unloads)
        return _info(model) if model is not None else self._pending()

    def statistics(self) -> Statistics:
        manager = self._manager
        if not manager.loaded:
            return Statistics(model=manager.name, weight_state=manager.weight_state)
        model, loaded = manager.current, manager.loaded
        queues = [each.batcher.statistics for each in loaded]
        return Statistics(
            model=model.id,
            device=str(model.weights.model.device),
            compute_type=model.weights.compute_type,
            memory=sum(each.memory for each in loaded),
            queued=sum(each.batcher.queued for each in loaded),
            batches=sum(queue.batches for queue in queues),
            calls=sum(queue.items for queue in queues),
            crashes=sum(queue.crashes for queue in queues),
            weight_state=model.weights.state,
            steps=dict(model.backoff.steps),
        )

    def _pending(self) -> ModelInfo:
        return ModelInfo(self.name, "loading" if self.loading else "released")


def _alias(model: ModelInfo) -> ModelInfo:
    return replace(model, id=OPENAI_NAME, alias_of=model.id)


def _info(model: LoadedModel) -> ModelInfo:
    backoff, placement = model.backoff, model.weights.placement
    memory = MemoryInfo(
        device=str(placement.device),
        compute_type=placement.compute_type,
        max_batch_size=backoff.max_batch_size,
        planned_compute_type=model.plan.compute_type,
        planned_max_batch_size=model.plan.batch,
        planned_bytes=model.plan.needed,
        free_bytes=model.plan.free,
        steps=dict(backoff.steps),
    )
    return ModelInfo(model.id, model.weights.state, model.loaded_at, model.users > 0, memory)
