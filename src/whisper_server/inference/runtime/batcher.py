"""A queue with a few workers: waiting items with equal keys run together.

A free worker takes the item that is due first and runs it at once, with the items of the same key that are waiting. So
an idle server adds no delay, and batches form by themselves while all workers are busy. A full batch may overtake a
smaller one for a limited time. This module knows nothing about Whisper.
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

# How many seconds earlier an item may be due that a full batch overtakes; meanwhile more items can join that one's
# batch. For scale: a window of base takes 0.6 s on two cores (docs/performance.md).
MAX_OVERTAKING_SECONDS = 2.0

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
    """Totals since the start: batches and items that ran without an error, and crashed workers."""

    batches: int = 0
    items: int = 0
    crashes: int = 0


class DynamicBatcher(Generic[K, P, R]):
    """Calls `run(key, payloads, otherwise_idle)` in `workers` threads; it must return one result for each payload.

    `otherwise_idle` is true for a single payload while nothing else waits or runs. `max_batch_size` returns how many
    items of a key may run together.
    """

    def __init__(
        self, run: Callable[[K, list[P], bool], Sequence[R]], *, workers: int, max_batch_size: Callable[[K], int]
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
        """Queue an item and wait for its result; raises what `run` raises for it alone, Cancelled or EngineFailed."""
        item = _Item[K, P, R](context.due, context.root, key, payload)
        with self._changed:
            self.check_open()
            insort(self._queue, item, key=lambda queued: queued.due)
            self._changed.notify()
        return context.wait(item.future)

    @property
    def queued(self) -> int:
        """The number of items that wait for a worker."""
        return len(self._queue)

    @property
    def healthy(self) -> bool:
        """Whether it is open and all workers are alive."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def check_open(self) -> None:
        """Raise EngineFailed after `close()`."""
        if self._closed:
            raise EngineFailed("the model has been unloaded")

    def close(self) -> None:
        """Fail the waiting items with EngineFailed, let the running ones finish, and end the threads."""
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
        """Wait for items and remove a batch of them from the queue; returns an empty one after `close()`."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return []
                selected = self._select_batch()
                self._queue = [item for item in self._queue if item not in selected]
                if batch := [item for item in selected if item.future.set_running_or_notify_cancel()]:
                    self._busy += 1
                    return batch

    def _select_batch(self) -> list[_Item[K, P, R]]:
        """Return the batch of the item that is due first, or a full one that may overtake it."""
        first = self._queue[0]
        latest = first.due + MAX_OVERTAKING_SECONDS
        keys = dict.fromkeys(item.key for item in self._queue if item.due <= latest or item.request is first.request)
        batches = [[item for item in self._queue if item.key == key] for key in keys]
        full = (batch for batch in batches if len(batch) >= self._max_batch_size(batch[0].key))
        batch = next(full, batches[0])
        return batch[: self._share(batch)]

    def _share(self, batch: Sequence[_Item[K, P, R]]) -> int:
        """Return how many of the items one worker takes; if nothing else is queued, workers share them.

        Items of several requests are shared by the idle workers. Those of one request are shared by all: a busy worker
        is likely to run another part of that request, and will be free at about the same time.
        """
        workers = 1
        if len(batch) == len(self._queue):
            one_request = all(item.request is batch[0].request for item in batch)
            workers = len(self._threads) if one_request else max(1, len(self._threads) - self._busy)
        return min(math.ceil(len(batch) / workers), self._max_batch_size(batch[0].key))

    def _run_batch(self, batch: list[_Item[K, P, R]]) -> None:
        """Run a batch; if it fails, run its items one by one, so that only the faulty one fails."""
        try:
            results = self._run(batch[0].key, [item.payload for item in batch], self._otherwise_idle(batch))
            finished = list(zip(batch, results, strict=True))
        except Exception as exc:
            if len(batch) == 1:
                batch[0].future.set_exception(exc)
                return
            logger.warning("a batch of %d failed; its items run one by one: %s", len(batch), exc)
            for item in batch:
                self._run_batch([item])
            return
        with self._changed:
            self.statistics.batches += 1
            self.statistics.items += len(batch)
        for item, result in finished:
            item.future.set_result(result)

    def _otherwise_idle(self, batch: Sequence[_Item[K, P, R]]) -> bool:
        with self._changed:
            return len(batch) == self._busy == 1 and not self._queue

    def _replace_crashed_worker(self, batch: list[_Item[K, P, R]], exc: BaseException) -> None:
        logger.critical("a worker of the model crashed; starting another", exc_info=exc)
        for item in batch:
            if not item.future.done():
                item.future.set_exception(EngineFailed(f"the model's worker crashed: {type(exc).__name__}"))
        with self._changed:
            self.statistics.crashes += 1
            self._threads = [thread for thread in self._threads if thread.is_alive() and thread is not current_thread()]
            if not self._closed:
                self._start_worker(f"{current_thread().name}+")
