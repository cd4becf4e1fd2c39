"""One queue in front of a few workers: what waits together and fits together runs together.

A worker that is free takes the item that is due first and runs it at once, with whatever else of the same key waits
by then. So an idle server adds no delay, and batches form by themselves while all workers are busy. A batch that is
full may overtake one that is not, for a bounded time. Knows nothing of Whisper.
"""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from typing import Generic, TypeVar

from whisper_server.core.errors import EngineFailed
from whisper_server.inference.request_context import RequestContext

logger = logging.getLogger(__name__)

# By how many seconds of due time a full batch may overtake: with it the others' company comes nearer.
PATIENCE = 2.0

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Item(Generic[K, P, R]):
    due: float
    request: RequestContext
    key: K
    payload: P
    future: Future[R] = field(default_factory=Future)


@dataclass(slots=True)
class BatchStatistics:
    batches: int = 0
    items: int = 0
    crashes: int = 0


class DynamicBatcher(Generic[K, P, R]):
    """Calls `run(key, payloads, alone)` in several threads at once; `alone` says that nothing else waits or runs.

    It returns as many results in the same order. `max_batch_size` says how many items of a key may run together.
    """

    def __init__(
        self,
        run: Callable[[K, list[P], bool], Sequence[R]],
        *,
        workers: int,
        max_batch_size: Callable[[K], int],
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._queue: list[_Item[K, P, R]] = []
        self._changed = Condition()
        self._closed = False
        self._busy = 0
        self.statistics = BatchStatistics()
        self._threads: list[Thread] = []
        for number in range(workers):
            self._start_worker(f"model-{number}")

    def call(self, key: K, payload: P, context: RequestContext) -> R:
        """Wait for the result of one item; raises what `run` raised for it alone, Cancelled or EngineFailed."""
        item = _Item[K, P, R](context.due, context.root, key, payload)
        with self._changed:
            self.check_open()
            insort(self._queue, item, key=lambda waiting: waiting.due)
            self._changed.notify()
        return context.wait(item.future)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def healthy(self) -> bool:
        """Whether every worker lives."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def check_open(self) -> None:
        """Raise EngineFailed if nothing can be called any more."""
        if self._closed:
            raise EngineFailed("the model has been unloaded")

    def close(self) -> None:
        """Fail what waits, let what runs finish, and end the threads."""
        with self._changed:
            self._closed = True
            waiting, self._queue = self._queue, []
            self._changed.notify_all()
        for item in waiting:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(EngineFailed("the model has been unloaded"))
        for thread in self._threads:
            thread.join()

    def _start_worker(self, name: str) -> None:
        thread = Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        batch: list[_Item[K, P, R]] = []
        try:
            while batch := self._next_batch():
                try:
                    self._run_batch(batch)
                finally:
                    with self._changed:
                        self._busy -= 1
        except BaseException as exc:
            self._replace_crashed_worker(batch, exc)

    def _next_batch(self) -> list[_Item[K, P, R]]:
        """Wait for work and take a batch of it; empty when it is time to end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return []
                taken = self._due_batch()
                self._queue = [item for item in self._queue if item not in taken]
                if wanted := [item for item in taken if item.future.set_running_or_notify_cancel()]:
                    self._busy += 1
                    return wanted

    def _due_batch(self) -> list[_Item[K, P, R]]:
        """The batch of the item that is due first, unless another one that is due soon is full."""
        head = self._queue[0]
        soon = [item for item in self._queue if item.due <= head.due + PATIENCE or item.request is head.request]
        batches = [self._batch_of(key) for key in dict.fromkeys(item.key for item in soon)]
        full = (batch for batch in batches if len(batch) >= self._max_batch_size(batch[0].key))
        batch = next(full, batches[0])
        return batch[: self._share(batch)]

    def _batch_of(self, key: K) -> list[_Item[K, P, R]]:
        return [item for item in self._queue if item.key == key]

    def _share(self, batch: Sequence[_Item[K, P, R]]) -> int:
        """How much of it this worker takes: if nothing else waits, the other idle workers get as much.

        The parts of one request are for all workers, as those that are busy now are so with its other parts.
        """
        workers = 1
        if len(batch) == len(self._queue):
            one = all(item.request is batch[0].request for item in batch)
            workers = len(self._threads) if one else max(1, len(self._threads) - self._busy)
        return min(math.ceil(len(batch) / workers), self._max_batch_size(batch[0].key))

    def _run_batch(self, batch: list[_Item[K, P, R]]) -> None:
        """Run a batch; if it fails, run its items singly, so that only the guilty one fails."""
        try:
            results = self._run(batch[0].key, [item.payload for item in batch], self._alone(batch))
            finished = list(zip(batch, results, strict=True))
        except Exception as exc:
            if len(batch) == 1:
                batch[0].future.set_exception(exc)
                return
            logger.warning("a batch of %d failed and is run singly: %s", len(batch), exc)
            for item in batch:
                self._run_batch([item])
            return
        with self._changed:
            self.statistics.batches += 1
            self.statistics.items += len(batch)
        for item, result in finished:
            item.future.set_result(result)

    def _alone(self, batch: Sequence[_Item[K, P, R]]) -> bool:
        with self._changed:
            return len(batch) == self._busy == 1 and not self._queue

    def _replace_crashed_worker(self, batch: list[_Item[K, P, R]], exc: BaseException) -> None:
        logger.critical("a worker of the model crashed and is replaced", exc_info=exc)
        for item in batch:
            if not item.future.done():
                item.future.set_exception(EngineFailed(f"the model's worker crashed: {type(exc).__name__}"))
        with self._changed:
            self.statistics.crashes += 1
            self._threads = [thread for thread in self._threads if thread.is_alive() and thread is not current_thread()]
            if not self._closed:
                self._start_worker(f"{current_thread().name}+")
