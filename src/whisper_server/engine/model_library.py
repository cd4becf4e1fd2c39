"""The asynchronous side of ModelLibrary: what could be served, downloads that clients can follow, and deletion."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

from anyio import CapacityLimiter, Event, move_on_after, to_thread
from anyio.abc import TaskGroup

from whisper_server.core.errors import Cancelled
from whisper_server.inference.models.catalogue import canonical_name
from whisper_server.inference.models.hub import Download
from whisper_server.inference.models.library import LibraryModel, Source, memory_by_type
from whisper_server.inference.models.manager import ModelManager

logger = logging.getLogger(__name__)

SOURCES: tuple[Source, ...] = get_args(Source)
_MAX_DOWNLOADS = 4
_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A model that could be served. `bytes` is its size on disk, or what would be downloaded.

    `memory` has the bytes that it needs for one request at a time, by compute type. `created` is in seconds since 1970;
    0 for models that are not on this machine.
    """

    id: str
    source: Source
    created: int
    bytes: int
    memory: Mapping[str, int]
    loaded: bool
    deletable: bool


class Pull:
    """A download that any number of clients follow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.progress = Download()
        self.done = Event()
        self.model: LibraryModel | None = None
        self.error: Exception = Cancelled("the server stopped before the download was complete; request it again")


class ModelLibraryAdmin:
    """Runs downloads in the task group, which must be cancelled when the server stops. `interval` is in seconds."""

    def __init__(self, manager: ModelManager, group: TaskGroup, *, interval: float = _INTERVAL) -> None:
        self._manager = manager
        self._group = group
        self._interval = interval
        self._pulls: dict[str, Pull] = {}
        self._downloads = CapacityLimiter(_MAX_DOWNLOADS)
        self._deletions = CapacityLimiter(1)

    async def available(self) -> list[AvailableModel]:
        """Return the models on this machine and those that may be downloaded."""
        return await to_thread.run_sync(self._list)

    def pull(self, name: str) -> Pull:
        """Start the download of a model, or join one that is running. It goes on when nobody follows it."""
        key = canonical_name(name) or name
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = Pull(name)
            self._group.start_soon(self._run, key, pull)
        return pull

    async def follow(self, pull: Pull) -> AsyncIterator[Download]:
        """Yield the progress, once per interval, until the end of the download."""
        while not pull.done.is_set():
            with move_on_after(self._interval):
                await pull.done.wait()
                return
            yield pull.progress

    async def result(self, pull: Pull) -> AvailableModel:
        """Wait for the end of the download and return the model, or raise what the download raised.

        That is ModelNotFound, ModelUnavailable, ModelLoadFailed or Cancelled.
        """
        await pull.done.wait()
        if pull.model is None:
            raise pull.error
        return self._available(pull.model)

    async def delete(self, name: str) -> str:
        """Delete the files of a model and return its id.

        Raises ModelNotFound, ModelNotDeletable, ModelInUse or ModelIsServed.
        """
        return (await to_thread.run_sync(self._manager.delete, name, limiter=self._deletions)).id

    async def _run(self, key: str, pull: Pull) -> None:
        work = partial(self._manager.library.pull, pull.name, pull.progress)
        try:
            pull.model = await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._downloads)
        except Exception as exc:  # result() raises it for every client
            logger.warning("%s was not downloaded: %s", pull.name, exc)
            pull.error = exc
        finally:
            pull.progress.cancel()
            del self._pulls[key]
            pull.done.set()

    def _list(self) -> list[AvailableModel]:
        return [self._available(model) for model in self._manager.available()]

    def _available(self, model: LibraryModel) -> AvailableModel:
        return AvailableModel(
            id=model.id,
            source=model.source,
            created=model.created,
            bytes=model.size,
            memory=memory_by_type(model.dimensions, on_gpu=self._manager.on_gpu),
            loaded=any(model.id in (loaded.id, canonical_name(loaded.id)) for loaded in self._manager.loaded),
            deletable=model.path is not None,
        )
