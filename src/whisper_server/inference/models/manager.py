"""Loads, replaces and unloads models; a request keeps the model that it started with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from whisper_server.core.errors import (
    ModelIncomplete,
    ModelIsServed,
    ModelLoadFailed,
    ModelNotDeletable,
    ModelNotFound,
    ModelUnavailable,
    WhisperServerError,
)
from whisper_server.inference.hardware.malloc import release_freed_memory
from whisper_server.inference.models.catalogue import REPOSITORIES, SERVED, canonical_name
from whisper_server.inference.models.idle_policy import IdleAction, IdlePolicy
from whisper_server.inference.models.library import LibraryModel, ModelLibrary
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.model_names import OperatorModel, public_id
from whisper_server.inference.models.pool import ModelPool
from whisper_server.inference.models.resolver import ModelResolver
from whisper_server.inference.runtime.weights import WeightState

logger = logging.getLogger(__name__)


class ModelManager:
    """Holds the current model and up to `on_demand` other models that requests have named."""

    def __init__(
        self, resolver: ModelResolver, loader: ModelLoader, *, on_demand: int = 0, idle_policy: IdlePolicy | None = None
    ) -> None:
        self.library = ModelLibrary(resolver)
        self._resolver = resolver
        self._loader = loader
        self._on_demand = on_demand
        self._idle_policy = idle_policy or IdlePolicy()
        self._pool = ModelPool()
        self._load_lock = Lock()
        self._startup = OperatorModel()
        self.loading = ""

    def __str__(self) -> str:
        current = self._pool.current
        return str(current) if current is not None else f"{self._startup.name} (loaded by the first request)"

    @property
    def current(self) -> LoadedModel:
        """The model for requests that name none."""
        current = self._pool.current
        assert current is not None, "no model has been loaded yet"
        return current

    @property
    def loaded(self) -> list[LoadedModel]:
        """The current model, once it was loaded, and then the others."""
        return self._pool.models

    @property
    def weight_state(self) -> WeightState:
        """The state of the current model's weights."""
        current = self._pool.current
        if current is None:
            return "loading" if self.loading else "released"
        return current.weights.state

    @property
    def name(self) -> str:
        """The current model's name for clients."""
        current = self._pool.current
        return current.id if current is not None else self._startup.id

    def find(self, name: str) -> LoadedModel:
        """Return the loaded model with that name, in any spelling; an empty name and OpenAI's mean the current one.

        Raises ModelNotFound.
        """
        model = self._pool.find(self._canonical(name))
        if model is None:
            names = ", ".join(model.id for model in self.loaded) or self.name
            how = "a request for audio that names it" if self._on_demand else "--on-demand-models, or POST /reload,"
            raise ModelNotFound(f"model {name!r} is not served here; this server has {names}; {how} can load another")
        return model

    def is_pending(self, name: str) -> bool:
        """Whether the name means the startup model and that has not been loaded yet."""
        return self._pool.current is None and self._canonical(name) in (SERVED, *self._startup.names)

    def is_loaded(self, name: str) -> bool:
        """Whether a model with that name is loaded."""
        return self._pool.find(self._canonical(name)) is not None

    def id_for(self, name: str) -> str:
        """Return the id of the model that a request with that name gets; raises ModelNotFound."""
        self.check(name)
        if self.is_pending(name):
            return self.name
        model = self._pool.find(self._canonical(name))
        return self._label(name) if model is None else model.id

    def check(self, name: str) -> None:
        """Raise ModelNotFound for a name that `lease` would refuse; does not search for files."""
        if not self._on_demand and not self.is_pending(name):
            self.find(name)

    @contextmanager
    def lease(self, name: str = "", *, keep_alive: float | None = None) -> Iterator[LoadedModel]:
        """Keep the model with that name (default: the current one) usable until the end of the block.

        A model that is not loaded is loaded if on-demand models are allowed. After the last lease, the weights stay
        for `keep_alive` seconds; None means as configured. Raises ModelNotFound, ModelUnavailable, ModelLoadFailed,
        OutOfMemory, or Overloaded if all on-demand models are in use.
        """
        model = self._pool.acquire(self._canonical(name)) or self._load_and_acquire(name)
        try:
            self._idle_policy.cancel(id(model))
            model.ensure_loaded()
            yield model
        finally:
            model.keep_alive = keep_alive
            self._pool.release(model)
            self._close_if_unused(model)
            self._schedule_idle(model)

    def load(self, name: str) -> LoadedModel:
        """Load the operator's model and make it the current one; returns it, raises what `lease` raises."""
        self.set_startup_model(name)
        with self._load_lock:
            model = self._make_current(self._load(name, self._resolver.resolve(name)))
        self._schedule_idle(model)
        return model

    def set_startup_model(self, name: str) -> None:
        """Set the operator's model without loading it; the first request loads it."""
        self._startup = OperatorModel.of(name)

    def preload(self) -> None:
        """Load the current model's weights ahead of a request; a failure is logged, and the request will raise it."""
        if self.weight_state == "loaded":
            return
        try:
            with self.lease():
                pass
        except WhisperServerError as exc:
            logger.warning("the model cannot be loaded now: %s", exc)

    def reload(self, name: str) -> LoadedModel:
        """Load a model that a client names and make it the current one; if that fails, the old one stays.

        The new model is loaded beside the current one. If memory does not suffice for both, new requests wait while
        running ones finish, and the current model is freed first. Reloads run one at a time.
        """
        with self._load_lock:
            if name in (self._startup.name, self._startup.id):
                name, directory = self._startup.name, self._resolve_startup_model()
            else:
                name, directory = self._label(name), self._resolver.resolve_for_client(name)
            if self._loader.fits_beside(directory, self._planned_bytes()):
                model = self._make_current(self._load(name, directory))
            else:
                model = self._free_and_load(name, directory)
        self._schedule_idle(model)
        return model

    def release(self, name: str = "") -> LoadedModel | None:
        """Release a model's weights, now or after its last lease; the next request loads them again.

        Returns the model, or None if it has not been loaded yet. Raises ModelNotFound.
        """
        if self.is_pending(name):
            return None
        model = self.find(name)
        model.release_when_idle = True
        self._schedule_idle(model)
        return model

    def unload(self, name: str) -> str:
        """Remove an on-demand model, which is closed after its last lease, and return its id.

        Raises ModelNotFound, or ModelIsServed for the current model.
        """
        model = self.find(name)
        self._pool.remove(model)
        self._close_if_unused(model)
        return model.id

    @property
    def on_gpu(self) -> bool:
        """Whether models are loaded on a GPU."""
        return self._loader.tuner.device.kind != "cpu"

    def available(self) -> list[LibraryModel]:
        """Return the models that could be served, with the one whose directory the operator named."""
        models, startup = self.library.list(), self._startup
        directory = startup.directory
        if directory is None or any(model.id == startup.id for model in models):
            return models
        return [*self.library.describe(startup.id, directory), *models]

    def delete(self, name: str) -> LibraryModel:
        """Delete the files of a model, which is unloaded first if it was loaded on demand; returns what it was.

        Raises ModelNotFound, ModelNotDeletable, ModelInUse, or ModelIsServed for the current and the operator's model.
        """
        with self._load_lock:  # no model is being loaded meanwhile
            if self._canonical(name) == SERVED:
                raise ModelIsServed(self.name)
            if self._startup.directory is not None and name == self._startup.id:
                raise ModelNotDeletable(f"model {name!r} is not deleted: the operator named its directory")
            model = self.library.find(name)
            model.check_deletable()
            startup = self._startup.directory or self._resolver.find(self._startup.name)
            if startup is not None and model.has(startup):
                raise ModelIsServed(model.id)
            for loaded in self.loaded:
                if model.has(loaded.weights.directory):
                    self._pool.remove_idle(loaded)
                    self._close_if_unused(loaded)
            self.library.delete(model)
            logger.info("deleted the files of %s", model.id)
            return model

    def close(self) -> None:
        """Stop the workers of all models; requests that still wait for them fail."""
        self._idle_policy.close()
        for model in self.loaded:
            model.close()

    def _canonical(self, name: str) -> str:
        """Return the name by which models are compared; loaded models and those in `models_dir` keep their own."""
        canonical = canonical_name(name)
        if canonical == name or any(model.id == name for model in self.loaded):
            return name
        return name if self._resolver.is_in_models_dir(name) else canonical

    def _label(self, name: str) -> str:
        """Return what a model is called that a client loads by that name."""
        return name if name in REPOSITORIES else self._canonical(name) or name

    def _resolve_startup_model(self) -> Path:
        """Return the directory of the operator's model; the errors are for clients and name no path."""
        try:
            return self._resolver.resolve(self._startup.name)
        except (ModelIncomplete, ModelNotFound, ModelUnavailable) as exc:
            logger.error("%s", exc)
            kind = ModelUnavailable if isinstance(exc, ModelUnavailable) else ModelLoadFailed
            raise kind(f"model {self._startup.id!r} is missing on this server; its log has the details") from exc

    def _load_and_acquire(self, name: str) -> LoadedModel:
        """Load a model, unless another request has loaded it while this one waited for the lock."""
        self.check(name)
        with self._load_lock:
            if (model := self._pool.acquire(self._canonical(name))) is not None:
                return model
            if self.is_pending(name):
                directory = self._resolve_startup_model()
                return self._make_current(self._load(self._startup.name, directory), users=1)
            directory = self._resolver.resolve_for_client(name)
            for idle in self._pool.evict_idle(self._on_demand):  # memory may not suffice for both
                idle.close()
                logger.info("unloaded %s", idle.name)
            release_freed_memory()
            model = self._load(self._label(name), directory)
            self._pool.add_on_demand(model)
            return model

    def _free_and_load(self, name: str, directory: Path) -> LoadedModel:
        """Free all models' weights before loading the new model; if that fails, load the current one again."""
        logger.info("there is not enough memory for %s beside %s: waiting until no request runs", name, self)
        with self._pool.exclusive_access():
            old_models = self.loaded
            for old in old_models:
                if not old.weights.offload():
                    old.weights.release()
            release_freed_memory()
            try:
                return self._make_current(self._load(name, directory))
            finally:
                if self.current in old_models:
                    self._restore(self.current)

    def _restore(self, model: LoadedModel) -> None:
        try:
            model.ensure_loaded()
        except WhisperServerError as exc:
            logger.warning("%s cannot be loaded again now, so the next request loads it: %s", model.name, exc)

    def _load(self, name: str, directory: Path) -> LoadedModel:
        self.loading = public_id(name)
        try:
            return self._loader.load(name, directory, reserved=self._planned_bytes())
        finally:
            self.loading = ""

    def _planned_bytes(self) -> int:
        """Return the planned memory of all models whose weights are loaded."""
        return sum(model.plan.needed for model in self.loaded if model.weights.state == "loaded")

    def _make_current(self, model: LoadedModel, *, users: int = 0) -> LoadedModel:
        for replaced in self._pool.set_current(model, users=users):
            self._close_if_unused(replaced)
        return model

    def _schedule_idle(self, model: LoadedModel) -> None:
        """If nobody uses the model, release its weights as requested, or start the timers of the idle policy."""
        if not self._pool.is_idle(model):
            return
        if model.release_when_idle:
            self._free_weights(model, "release")
        else:
            action = partial(self._free_weights, model)
            self._idle_policy.schedule(id(model), action, on_gpu=model.on_gpu, keep_alive=model.keep_alive)

    def _free_weights(self, model: LoadedModel, action: IdleAction) -> None:
        if model.users or model.weights.state == "released":
            return
        if action == "release":
            model.release_when_idle = False
            model.wait_for_background()
            model.weights.release()
        elif not model.weights.offload():
            return
        release_freed_memory()
        logger.info("%s the weights of %s", "released" if action == "release" else "offloaded", model.name)

    def _close_if_unused(self, model: LoadedModel) -> None:
        if self._pool.is_unused(model):
            self._idle_policy.cancel(id(model))
            model.close()
            release_freed_memory()
