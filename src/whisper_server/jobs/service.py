"""Everything about jobs in one object: opened when it can be, closed with the server.

A database or a directory that is broken makes jobs unavailable and nothing else; it is tried again and again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from anyio import CancelScope, CapacityLimiter, Event, Lock, create_task_group, move_on_after, sleep, to_thread

from whisper_server.engine import Engine
from whisper_server.errors import JobsUnavailable
from whisper_server.inference.transcription import Transcript
from whisper_server.jobs.callbacks import DELAYS, PATIENCE, Callbacks
from whisper_server.jobs.database import Database
from whisper_server.jobs.description import described
from whisper_server.jobs.fetch import Fetcher
from whisper_server.jobs.files import DataDirectory
from whisper_server.jobs.job import FINAL, Draft, Job, Lease, new_id
from whisper_server.jobs.job import Event as JobEvent
from whisper_server.jobs.leases import Leases
from whisper_server.jobs.runner import Runner
from whisper_server.jobs.store import JobStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds until a broken store is tried again, and between looks for others' jobs, at watched jobs and for old ones.
_REPAIR = 5.0
_POLL = 2.0
_WATCH = 0.5
_SWEEP = 60.0
_LEASE = 30.0
# Files that belong to no job so long after they were written belong to none for ever.
_ORPHANED = 3600.0
_MOST_DEATHS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`concurrency` jobs run at a time; 0 is no limit for the others."""

    concurrency: int = 2
    max_jobs: int = 0
    max_jobs_of_key: int = 0
    seconds_to_live: float = 0.0
    result_cache: bool = False


@dataclass(slots=True)
class _Opened:
    """What there is while jobs are available."""

    store: JobStore
    leases: Leases
    server: str
    held: ExitStack
    running: dict[str, CancelScope] = field(default_factory=dict)


class Jobs:
    def __init__(
        self,
        engine: Engine,
        data: DataDirectory,
        database: Database,
        *,
        fetcher: Fetcher,
        callbacks: Callbacks,
        limits: Limits,
        enabled: bool = True,
        lease_seconds: float = _LEASE,
    ) -> None:
        self._engine = engine
        self._data = data
        self._database = database
        self._enabled = enabled
        self._fetcher = fetcher
        self.callbacks = callbacks
        self._limits = limits
        self._lease_seconds = lease_seconds
        self._opened: _Opened | None = None
        self._opening = Lock()
        self._problem = "the store of jobs is not open yet"
        self._news = Event()
        self._limiter = CapacityLimiter(16)
        self._watched: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._changed = Event()
        self._stopping = Event()
        self.counts: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Work on jobs until the end of the block; those that run then are given back where they are."""
        async with create_task_group() as group:
            if self._enabled:
                group.start_soon(self._keep_serving)
            try:
                yield
            finally:
                self.end_events()
                group.cancel_scope.cancel()

    def end_events(self) -> None:
        """Let go of those who follow jobs, as the server stops; they come back to the next one."""
        self._stopping.set()
        self._changed.set()

    # What clients ask for.

    async def submit(
        self,
        owner: str,
        drafts: Sequence[Draft],
        files: Sequence[BinaryIO | None],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> tuple[list[Job], bool]:
        """Save the files and add the jobs; returns these, or the same as ever for a key, and whether they are new."""
        opened = await self._open()
        add = partial(self._add, opened.store, owner, drafts, files, idempotency_key, fingerprint)
        jobs, new = await self._blocking(add)
        self._wake()
        return jobs, new

    def _add(
        self,
        store: JobStore,
        owner: str,
        drafts: Sequence[Draft],
        files: Sequence[BinaryIO | None],
        idempotency_key: str | None,
        fingerprint: str,
    ) -> tuple[list[Job], bool]:
        if idempotency_key is not None and (known := store.repeated(owner, idempotency_key, fingerprint)):
            return known, False
        store.check_room(owner, len(drafts))
        saved: list[tuple[str, int | None]] = []
        new = False
        try:
            for file in files:
                id = new_id()
                saved.append((id, None))
                if file is not None:
                    saved[-1] = (id, self._data.save(id, file))
            jobs, new = store.add(owner, drafts, saved, idempotency_key=idempotency_key, fingerprint=fingerprint)
            return jobs, new
        finally:
            for id, _ in () if new else saved:
                self._data.remove(id)

    @property
    def available(self) -> bool:
        return self._opened is not None

    async def check_room(self, owner: str) -> None:
        """Say before an upload is read that it would be in vain."""
        opened = await self._open()
        await self._blocking(opened.store.check_room, owner)

    async def get(self, id: str, owner: str | None) -> Job:
        opened = await self._open()
        return await self._blocking(opened.store.get, id, owner)

    async def page(self, owner: str | None, **wanted: Any) -> tuple[list[Job], bool]:
        opened = await self._open()
        return await self._blocking(partial(opened.store.page, owner, **wanted))

    async def described(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        opened = await self._open()
        positions = await self._blocking(opened.store.positions, jobs)
        return [
            described(
                job,
                position=positions.get(job.id),
                waiting_for_model=job.state == "queued" and not self._engine.serves(job.model),
            )
            for job in jobs
        ]

    async def text(self, job: Job) -> str:
        opened = await self._open()
        return await self._blocking(opened.store.text, job)

    async def transcript(self, job: Job) -> Transcript:
        opened = await self._open()
        return await self._blocking(opened.store.transcript, job)

    async def audio(self, job: Job) -> Path | None:
        """Return where the job's file is, while it is here."""
        await self._open()
        return self._data.file(job.id) if await self._blocking(self._data.has, job.id) else None

    async def cancel(self, id: str, owner: str | None) -> Job:
        opened = await self._open()
        job = await self._blocking(opened.store.cancel, id, owner)
        self._stop(opened, id)
        if not job.keep_audio:
            await self._blocking(self._data.remove, id)
        return job

    async def delete(self, id: str, owner: str | None) -> None:
        opened = await self._open()
        await self._blocking(opened.store.delete, id, owner)
        self._stop(opened, id)
        await self._blocking(self._data.remove, id)

    async def follow(self, job: Job, *, after: int) -> AsyncIterator[list[JobEvent]]:
        """Yield what has happened and then what happens, until the job has ended or is gone, or the server stops."""
        opened = await self._open()
        self._watched[job.id] += 1
        self._seen.setdefault(job.id, 0)
        try:
            while True:
                changed = self._changed
                events = await self._blocking(partial(opened.store.events, job.id, after=after))
                if events:
                    yield events
                    after = events[-1].number
                    if events[-1].kind.removeprefix("job.") in FINAL:
                        return
                elif self._stopping.is_set() or job.id not in self._seen:
                    return
                else:
                    await changed.wait()
        finally:
            self._watched[job.id] -= 1
            if not self._watched[job.id]:
                del self._watched[job.id]
                self._seen.pop(job.id, None)

    # What goes on by itself.

    async def _keep_serving(self) -> None:
        while True:
            try:
                opened = await self._open()
                async with create_task_group() as group:
                    runner = Runner(
                        self._engine,
                        opened.leases,
                        self._data,
                        self._fetcher,
                        result_cache=self._limits.result_cache,
                    )
                    for _ in range(self._limits.concurrency):
                        group.start_soon(self._work, opened, runner)
                    group.start_soon(self._repeatedly, self._renew, opened, self._lease_seconds / 3)
                    group.start_soon(self._repeatedly, self._recover, opened, _POLL)
                    group.start_soon(self._repeatedly, self._sweep, opened, _SWEEP)
                    group.start_soon(self._repeatedly, self._call_back, opened, _POLL)
                    group.start_soon(self._repeatedly, self._watch, opened, _WATCH)
            except JobsUnavailable:
                await sleep(_REPAIR)
            finally:
                if self._opened is not None and self._stopping.is_set():
                    with CancelScope(shield=True):
                        await self._blocking(self._opened.held.close)

    async def _open(self) -> _Opened:
        """Return the store, open; raises JobsUnavailable."""
        if not self._enabled:
            raise JobsUnavailable("this server takes no jobs (--no-jobs)")
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    try:
                        self._opened = await self._blocking(self._open_now)
                    except JobsUnavailable as exc:
                        if str(exc) != self._problem:
                            self._problem = str(exc)
                            logger.error("jobs are not available: %s", exc)
                        raise
                    logger.info("jobs are kept in %s", self._data.path)
        return self._opened

    def _open_now(self) -> _Opened:
        with ExitStack() as on_failure:
            self._data.open()
            on_failure.callback(self._database.close)
            self._database.migrate()
            server = on_failure.enter_context(self._data.alive())
            limits = self._limits
            store = JobStore(
                self._database,
                self._data.storage,
                max_jobs=limits.max_jobs,
                max_jobs_of_owner=limits.max_jobs_of_key,
                seconds_to_live=limits.seconds_to_live,
            )
            leases = Leases(
                self._database,
                self._data.storage,
                server,
                seconds=self._lease_seconds,
                seconds_to_live=limits.seconds_to_live,
            )
            return _Opened(store, leases, server, on_failure.pop_all())

    async def _work(self, opened: _Opened, runner: Runner) -> None:
        """Take one job after the other."""
        while True:
            news = self._news
            lease = await self._claimed(opened)
            if lease is None:
                with move_on_after(_POLL):
                    await news.wait()
                continue
            with CancelScope() as scope:
                opened.running[lease.job.id] = scope
                try:
                    await runner.run(lease)
                finally:
                    del opened.running[lease.job.id]

    async def _claimed(self, opened: _Opened) -> Lease | None:
        try:
            if await self._blocking(opened.leases.waiting, self._engine.serves):
                return await self._blocking(opened.leases.claim, self._engine.serves)
        except JobsUnavailable:
            await sleep(_REPAIR)  # what fails has been logged
        except Exception:  # nothing about jobs may end the server
            logger.exception("no job can be taken up")
            await sleep(_REPAIR)
        return None

    async def _repeatedly(self, step: Callable[[_Opened], Any], opened: _Opened, interval: float) -> None:
        while True:
            try:
                await step(opened)
            except JobsUnavailable:
                await sleep(_REPAIR)  # what fails has been logged
            except Exception:  # nothing about jobs may end the server
                logger.exception("jobs: %s failed", step.__name__.strip("_"))
                await sleep(_REPAIR)
            await sleep(interval)

    async def _renew(self, opened: _Opened) -> None:
        """Keep the leases of what runs, and stop what is not this server's any more."""
        await self._blocking(opened.leases.renew)

    async def _recover(self, opened: _Opened) -> None:
        if await self._blocking(partial(opened.leases.recover, self._data.is_dead, most_deaths=_MOST_DEATHS)):
            self._wake()
        self.counts = await self._blocking(opened.store.counts)

    async def _sweep(self, opened: _Opened) -> None:
        """Remove jobs that have lived long enough, and files that belong to none."""
        for id in await self._blocking(opened.store.expire):
            await self._blocking(self._data.remove, id)
        old = await self._blocking(self._data.old, _ORPHANED)
        kept = await self._blocking(opened.store.kept_files, old)
        for name in set(old) - kept:
            await self._blocking(self._data.remove, name)

    async def _call_back(self, opened: _Opened) -> None:
        while (job := await self._blocking(partial(opened.store.due_callback, patience=PATIENCE))) is not None:
            delivered = await self._blocking(self.callbacks.deliver, job, described(job))
            if delivered:
                settle = partial(opened.store.settle_callback, job.id, "delivered")
            elif job.callback_attempts > len(DELAYS):
                settle = partial(opened.store.settle_callback, job.id, "failed")
            else:
                delay = DELAYS[job.callback_attempts - 1]
                settle = partial(opened.store.settle_callback, job.id, "pending", delay=delay)
            await self._blocking(settle)

    async def _watch(self, opened: _Opened) -> None:
        """Wake those who follow jobs to which something has happened."""
        if not self._watched:
            return
        found = await self._blocking(opened.store.last_events, list(self._watched))
        if {id: found.get(id) for id in self._seen} != self._seen:
            self._seen = {id: found[id] for id in self._seen if id in found}
            changed, self._changed = self._changed, Event()
            changed.set()

    def _stop(self, opened: _Opened, id: str) -> None:
        if id in opened.running:
            opened.running[id].cancel()

    def _wake(self) -> None:
        news, self._news = self._news, Event()
        news.set()

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)
