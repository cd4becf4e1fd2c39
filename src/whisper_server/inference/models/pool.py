"""The loaded models and the number of users of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from whisper_server.core.errors import ModelInUse, ModelIsServed, Overloaded
from whisper_server.inference.models.catalogue import SERVED
from whisper_server.inference.models.loaded_model import LoadedModel

_RETRY_AFTER = 5


class ModelPool:
    """The current model, which serves requests that name none, and the models that were loaded on demand.

    The pool closes no model: an acquired model stays usable until its release, even after it leaves the pool.
    """

    def __init__(self) -> None:
        self._changed = Condition()  # reentrant
        self._open = True
        self._current: LoadedModel | None = None
        self._on_demand: list[LoadedModel] = []  # least recently used first

    @property
    def current(self) -> LoadedModel | None:
        return self._current

    @property
    def models(self) -> list[LoadedModel]:
        """The current model, if there is one, and then the others."""
        with self._changed:
            return [model for model in (self._current, *self._on_demand) if model is not None]

    def find(self, name: str) -> LoadedModel | None:
        """Return the model with that canonical name; SERVED means the current one."""
        with self._changed:
            if name == SERVED:
                return self._current
            by_id = next((model for model in self.models if model.id == name), None)
            return by_id or next((model for model in self.models if model.matches(name)), None)

    def acquire(self, name: str) -> LoadedModel | None:
        """Return the model with that name and count one more user, or None; waits during `exclusive_access`."""
        with self._changed:
            self._changed.wait_for(lambda: self._open)
            model = self.find(name)
            if model is not None:
                model.users += 1
                if model in self._on_demand:
                    self._on_demand.remove(model)
                    self._on_demand.append(model)
            return model

    def release(self, model: LoadedModel) -> None:
        with self._changed:
            model.users -= 1
            self._changed.notify_all()

    def set_current(self, model: LoadedModel, *, users: int = 0) -> list[LoadedModel]:
        """Make it the current model, with so many users from the start, and return the models that it replaces."""
        with self._changed:
            model.users += users
            replaced = [other for other in self._on_demand if other.names & model.names]
            self._on_demand = [other for other in self._on_demand if other not in replaced]
            if self._current is not None:
                replaced.append(self._current)
            self._current = model
            return replaced

    def add_on_demand(self, model: LoadedModel) -> None:
        """Add a model with one user."""
        with self._changed:
            model.users += 1
            self._on_demand.append(model)

    def remove(self, model: LoadedModel) -> None:
        """Remove an on-demand model; raises ModelIsServed for the current one."""
        with self._changed:
            if model is self._current:
                raise ModelIsServed(model.id)
            self._on_demand = [other for other in self._on_demand if other is not model]

    def remove_idle(self, model: LoadedModel) -> None:
        """Remove an on-demand model without users; raises ModelIsServed or ModelInUse."""
        with self._changed:
            if model is not self._current and model.users:
                raise ModelInUse(model.id)
            self.remove(model)

    def evict_idle(self, limit: int) -> list[LoadedModel]:
        """Remove and return the least recently used on-demand models, so that one more fits within the limit.

        Raises Overloaded if too many are in use.
        """
        with self._changed:
            excess = len(self._on_demand) + 1 - limit
            evicted = [model for model in self._on_demand if not model.users][: max(0, excess)]
            if len(evicted) < excess:
                raise Overloaded("all models that may be loaded on demand are in use", _RETRY_AFTER)
            self._on_demand = [model for model in self._on_demand if model not in evicted]
            return evicted

    @contextmanager
    def exclusive_access(self) -> Iterator[None]:
        """Wait until no model has a user, and make `acquire` wait until the end of the block."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not any(model.users for model in self.models))
        try:
            yield
        finally:
            with self._changed:
                self._open = True
                self._changed.notify_all()

    def is_idle(self, model: LoadedModel) -> bool:
        """Whether the model is in the pool and has no users."""
        with self._changed:
            return model in self.models and not model.users

    def is_unused(self, model: LoadedModel) -> bool:
        """Whether the model has left the pool and has no users, so that it can be closed."""
        with self._changed:
            return model not in self.models and not model.users
