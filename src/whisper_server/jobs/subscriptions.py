"""Jobs that somebody follows: one look at the database for all of them, whoever works on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from anyio import CapacityLimiter, Event, to_thread

from whisper_server.jobs.job import FINAL
from whisper_server.jobs.job import Event as JobEvent
from whisper_server.jobs.storage.job_store import JobStore


class JobSubscriptions:
    def __init__(self, limiter: CapacityLimiter) -> None:
        self._limiter = limiter
        self._count: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._changed = Event()
        self._ended = False

    def end(self) -> None:
        """Let go of all, now and later."""
        self._ended = True
        self._changed.set()

    async def look(self, store: JobStore) -> None:
        """Wake those who follow jobs to which something has happened."""
        if not self._count:
            return
        found = await to_thread.run_sync(store.last_events, list(self._count), limiter=self._limiter)
        if {id: found.get(id) for id in self._seen} != self._seen:
            self._seen = {id: found[id] for id in self._seen if id in found}
            changed, self._changed = self._changed, Event()
            changed.set()

    async def follow(self, store: JobStore, id: str, *, after: int) -> AsyncIterator[list[JobEvent]]:
        """Yield what has happened and then what happens, until the job has ended or is gone, or all are let go."""
        self._count[id] += 1
        self._seen.setdefault(id, 0)
        try:
            while True:
                changed = self._changed
                read = partial(store.events, id, after=after)
                events = await to_thread.run_sync(read, limiter=self._limiter)
                if events:
                    yield events
                    after = events[-1].number
                    if events[-1].kind.removeprefix("job.") in FINAL:
                        return
                elif self._ended or id not in self._seen:
                    return
                else:
                    await changed.wait()
        finally:
            self._count[id] -= 1
            if not self._count[id]:
                del self._count[id]
                self._seen.pop(id, None)
