"""Clients that follow the events of jobs: one query for all of them, whichever server runs the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from anyio import CapacityLimiter, to_thread

from whisper_server.core.notifier import Notifier
from whisper_server.jobs.job import FINAL, JobEvent
from whisper_server.jobs.storage.job_store import JobStore


class JobSubscriptions:
    def __init__(self, limiter: CapacityLimiter) -> None:
        self._limiter = limiter
        self._subscribers: Counter[str] = Counter()
        self._last_events: dict[str, int] = {}
        self._changes = Notifier()
        self._closed = False

    def close(self) -> None:
        """End all subscriptions, and those to come."""
        self._closed = True
        self._changes.notify()

    async def poll(self, store: JobStore) -> None:
        """Wake the subscribers if any of their jobs has new events."""
        if not self._subscribers:
            return
        current = await to_thread.run_sync(store.last_events, list(self._subscribers), limiter=self._limiter)
        if {id: current.get(id) for id in self._last_events} != self._last_events:
            self._last_events = {id: current[id] for id in self._last_events if id in current}
            self._changes.notify()

    async def follow(self, store: JobStore, id: str, *, after: int) -> AsyncIterator[list[JobEvent]]:
        """Yield the events with higher numbers than `after`, and new ones as they occur.

        Ends when the job is finished or removed, or with `close()`.
        """
        self._subscribers[id] += 1
        self._last_events.setdefault(id, 0)
        try:
            while True:
                change = self._changes.next
                read = partial(store.events, id, after=after)
                events = await to_thread.run_sync(read, limiter=self._limiter)
                if events:
                    yield events
                    after = events[-1].number
                    if events[-1].kind.removeprefix("job.") in FINAL:
                        return
                elif self._closed or id not in self._last_events:
                    return
                else:
                    await change.wait()
        finally:
            self._subscribers[id] -= 1
            if not self._subscribers[id]:
                del self._subscribers[id]
                self._last_events.pop(id, None)
