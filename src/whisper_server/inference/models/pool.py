"""The models that are loaded, and who uses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from whisper_server.core.errors import ModelIsServed, Overloaded
from whisper_server.inference.models.catalogue import OPENAI_NAMES
from whisper_server.inference.models.loaded_model import LoadedModel

_RETRY_AFTER = 5


class ModelPool:
    """The current model and the others. One that is taken stays whole until it is given back, on the shelf or not."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._open = True
        self._current: LoadedModel | None = None
        self._others: list[LoadedModel] = []  # the least recently used first

    @property
    def current(self) -> LoadedModel | None:
        return self._current

    @property
    def models(self) -> list[LoadedModel]:
        """The current one, once there is one, and the others."""
        with self._changed:
            return self._models()

    def find(self, name: str) -> LoadedModel | None:
        """No name and those of OpenAI's models mean the current one."""
        with self._changed:
            return self._named(name)

    def take(self, name: str) -> LoadedModel | None:
        """Use the model of that name, if it is here, from now on; waits while nobody may work."""
        with self._changed:
            self._changed.wait_for(lambda: self._open)
            model = self._named(name)
            if model is not None:
                model.users += 1
                if model in self._others:
                    self._others.append(self._others.pop(self._others.index(model)))
            return model

    def release_lease(self, model: LoadedModel) -> None:
        with self._changed:
            model.users -= 1
            self._changed.notify_all()

    def set_current(self, model: LoadedModel, *, users: int = 0) -> list[LoadedModel]:
        """Make it the current one, for so many users to begin with, and return those that it replaces."""
        with self._changed:
            model.users += users
            replaced = [other for other in self._others if other.is_called(model.name)]
            self._others = [other for other in self._others if other not in replaced]
            if self._current is not None:
                replaced.append(self._current)
            self._current = model
            return replaced

    def add_on_demand(self, model: LoadedModel) -> None:
        """Add it to the others, with one user."""
        with self._changed:
            model.users += 1
            self._others.append(model)

    def remove(self, model: LoadedModel) -> None:
        """Raises ModelIsServed for the current one."""
        with self._changed:
            if model is self._current:
                raise ModelIsServed(model.id)
            self._others = [other for other in self._others if other is not model]

    def make_room(self, others: int) -> list[LoadedModel]:
        """Remove and return those that were idle for longest, so that of so many others one is still to come.

        Raises Overloaded if too many are in use.
        """
        with self._changed:
            too_many = len(self._others) + 1 - others
            leaving = [model for model in self._others if not model.users][: max(0, too_many)]
            if len(leaving) < too_many:
                raise Overloaded("all models that may be loaded on demand are in use", _RETRY_AFTER)
            self._others = [model for model in self._others if model not in leaving]
            return leaving

    @contextmanager
    def exclusive_access(self) -> Iterator[None]:
        """Let nobody in until the end of the block, which begins when all are gone."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not any(model.users for model in self._models()))
        try:
            yield
        finally:
            with self._changed:
                self._open = True
                self._changed.notify_all()

    def is_idle(self, model: LoadedModel) -> bool:
        """Whether it is here, and nobody uses it."""
        with self._changed:
            return model in self._models() and not model.users

    def is_needed(self, model: LoadedModel) -> bool:
        """Whether it is here, or used by somebody yet."""
        with self._changed:
            return model in self._models() or model.users > 0

    def _models(self) -> list[LoadedModel]:
        return [model for model in (self._current, *self._others) if model is not None]

    def _named(self, name: str) -> LoadedModel | None:
        if not name or name in OPENAI_NAMES:
            return self._current
        return next((model for model in self._models() if model.is_called(name)), None)
