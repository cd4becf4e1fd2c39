"""Loads models and swaps them in; whoever works keeps the model that they started with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from whisper_server.core.errors import ModelNotFound, WhisperServerError
from whisper_server.inference.hardware.malloc import release_freed_memory
from whisper_server.inference.models.catalogue import OPENAI_NAMES
from whisper_server.inference.models.idle_policy import IdleAction, IdlePolicy
from whisper_server.inference.models.loaded_model import LoadedModel, public_id, same_repository
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.pool import ModelPool
from whisper_server.inference.models.resolver import ModelResolver
from whisper_server.inference.runtime.weights import WeightState

logger = logging.getLogger(__name__)


class ModelManager:
    """Has the current model, and up to `on_demand` others that requests have named."""

    def __init__(
        self,
        resolver: ModelResolver,
        loader: ModelLoader,
        *,
        on_demand: int = 0,
        idle_policy: IdlePolicy | None = None,
    ) -> None:
        self._resolver = resolver
        self._loader = loader
        self._on_demand = on_demand
        self._idle_policy = idle_policy or IdlePolicy()
        self._pool = ModelPool()
        self._one_load = Lock()
        self._startup_name = ""
        self.loading = ""

    def __str__(self) -> str:
        current = self._pool.current
        return str(current) if current is not None else f"{self._startup_name} (which comes with the first request)"

    @property
    def current(self) -> LoadedModel:
        """The model for new work."""
        current = self._pool.current
        assert current is not None, "load() comes before current"
        return current

    @property
    def loaded(self) -> list[LoadedModel]:
        """The current model, once it was loaded, and the others."""
        return self._pool.models

    @property
    def weight_state(self) -> WeightState:
        """Where the weights of the current model are."""
        current = self._pool.current
        if current is None:
            return "loading" if self.loading else "released"
        return current.weights.state

    @property
    def name(self) -> str:
        """That of the current model, for clients."""
        current = self._pool.current
        return current.id if current is not None else public_id(self._startup_name)

    def find(self, name: str) -> LoadedModel:
        """Return the loaded model of that name; no name and those of OpenAI's models mean the current one.

        Raises ModelNotFound.
        """
        model = self._pool.find(name)
        if model is None:
            advice = "a request for audio that names it" if self._on_demand else "--on-demand-models, or POST /reload,"
            raise ModelNotFound(f"model {name!r} is not loaded here, but {self.name} is; {advice} can load another")
        return model

    def called(self, name: str) -> str:
        """Return the id of the model that a request of that name gets; raises ModelNotFound."""
        self.check(name)
        if self._is_to_come(name):
            return self.name
        model = self._pool.find(name)
        return name if model is None else model.id

    def check(self, name: str) -> None:
        """Raise ModelNotFound for a model that no lease can be had of, as far as that is known without looking."""
        if not self._on_demand and not self._is_to_come(name):
            self.find(name)

    @contextmanager
    def lease(self, name: str = "", *, keep_alive: float | None = None) -> Iterator[LoadedModel]:
        """Keep the model of that name, by default the current one, until the end of the block, whatever is loaded.

        One that is not loaded is, if models are loaded on demand. After the last lease its weights stay for
        `keep_alive` seconds, or as the server is set. Raises ModelNotFound, ModelUnavailable, ModelLoadFailed,
        OutOfMemory, or Overloaded if all others are in use.
        """
        model = self._pool.take(name) or self._taken_later(name)
        try:
            self._idle_policy.wake(id(model))
            model.wake()
            yield model
        finally:
            model.keep_alive = keep_alive
            self._pool.release_lease(model)
            self._close_unless_needed(model)
            self._rest(model)

    def load(self, name: str) -> LoadedModel:
        """Load the model that the operator names."""
        self.expect(name)
        with self._one_load:
            model = self._swap_in(self._loaded(name, self._resolver.resolve(name)))
        self._rest(model)
        return model

    def expect(self, name: str) -> None:
        """Note the model that the operator names: the first request loads it."""
        self._startup_name = name

    def wake(self) -> None:
        """Bring the current model's weights back, for a request that is on its way; failures are for that to meet."""
        if self.weight_state == "loaded":
            return
        try:
            with self.lease():
                pass
        except WhisperServerError as exc:
            logger.warning("the model cannot be loaded now: %s", exc)

    def reload(self, name: str) -> LoadedModel:
        """Load the model that a client names, and let the current one serve on unless this succeeds.

        It is loaded beside the current one. Where there is no room for both, new requests wait while those that run
        finish, and the current one steps aside. One reload at a time: a second one waits for the first.
        """
        with self._one_load:
            operator_named = name == self._startup_name
            resolve = self._resolver.resolve if operator_named else self._resolver.resolve_for_client
            directory = resolve(name)
            if self._loader.fits_beside(directory, self._planned()):
                model = self._swap_in(self._loaded(name, directory))
            else:
                model = self._load_instead(name, directory)
        self._rest(model)
        return model

    def release(self, name: str = "") -> LoadedModel | None:
        """Drop a model's weights, now or after its last lease; the next request brings them back.

        Returns the model, or None if it was not there yet. Raises ModelNotFound.
        """
        if self._is_to_come(name):
            return None
        model = self.find(name)
        model.unwanted = True
        self._rest(model)
        return model

    def unload(self, name: str) -> str:
        """Let go of a model that was loaded on demand, and return its id; it ends with its last lease.

        Raises ModelNotFound, or ModelIsServed for the current one.
        """
        model = self.find(name)
        self._pool.remove(model)
        self._close_unless_needed(model)
        return model.id

    def close(self) -> None:
        """End the models' workers; what still waits for them fails."""
        self._idle_policy.close()
        for model in self.loaded:
            model.close()

    def _is_to_come(self, name: str) -> bool:
        """Whether that is the model that the first request loads."""
        startup = self._startup_name
        named = not name or name in OPENAI_NAMES or name == public_id(startup) or same_repository(name, startup)
        return self._pool.current is None and named

    def _taken_later(self, name: str) -> LoadedModel:
        """Load a model, unless another request has loaded it by the time that it is this one's turn."""
        if not self._is_to_come(name):
            self.check(name)
        with self._one_load:
            if (model := self._pool.take(name)) is not None:
                return model
            if self._is_to_come(name):
                startup = self._startup_name
                return self._swap_in(self._loaded(startup, self._resolver.resolve(startup)), users=1)
            directory = self._resolver.resolve_for_client(name)
            self._make_room()
            model = self._loaded(name, directory)
            self._pool.add_on_demand(model)
            return model

    def _make_room(self) -> None:
        """End the models that were idle for longest, as there may not be memory for the next one beside them."""
        for model in self._pool.make_room(self._on_demand):
            model.close()
            logger.info("unloaded %s", model.name)
        release_freed_memory()

    def _load_instead(self, name: str, directory: Path) -> LoadedModel:
        logger.info("there is no room for %s beside %s, which steps aside as soon as nobody uses it", name, self)
        with self._pool.exclusive_access():
            aside = self.loaded
            for old in aside:
                if not old.weights.offload():
                    old.weights.release()
            release_freed_memory()
            try:
                return self._swap_in(self._loaded(name, directory))
            finally:
                if self.current in aside:
                    self._bring_back(self.current)

    def _bring_back(self, model: LoadedModel) -> None:
        try:
            model.wake()
        except WhisperServerError as exc:
            logger.warning("%s comes back with the next request, as now it cannot: %s", model.name, exc)

    def _loaded(self, name: str, directory: Path) -> LoadedModel:
        self.loading = public_id(name)
        try:
            return self._loader.load(name, directory, taken=self._planned())
        finally:
            self.loading = ""

    def _planned(self) -> int:
        """The bytes that the models' plans count with, of those whose weights are where they work."""
        return sum(model.plan.needed for model in self.loaded if model.weights.state == "loaded")

    def _swap_in(self, model: LoadedModel, *, users: int = 0) -> LoadedModel:
        for replaced in self._pool.set_current(model, users=users):
            self._close_unless_needed(replaced)
        return model

    def _rest(self, model: LoadedModel) -> None:
        """Once nobody uses it, drop what is unwanted and let the residency decide about the rest."""
        if not self._pool.is_idle(model):
            return
        if model.unwanted:
            self._leave(model, "release")
        else:
            leave = partial(self._leave, model)
            self._idle_policy.rest(id(model), leave, on_card=model.on_card, keep_alive=model.keep_alive)

    def _leave(self, model: LoadedModel, how: IdleAction) -> None:
        if model.users or model.weights.state == "released":
            return
        if how == "release":
            model.unwanted = False
            model.wait_until_improved()
            model.weights.release()
        elif not model.weights.offload():
            return
        release_freed_memory()
        logger.info("%s the weights of %s", "released" if how == "release" else "parked", model.name)

    def _close_unless_needed(self, model: LoadedModel) -> None:
        if not self._pool.is_needed(model):
            self._idle_policy.wake(id(model))
            model.close()
            release_freed_memory()
