"""Everything about jobs in one object: opened when it can be, closed with the server.

A database or a directory that is broken makes jobs unavailable and nothing else; it is tried again and again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from anyio import CancelScope, CapacityLimiter, Event, Lock, create_task_group, move_on_after, sleep, to_thread

from whisper_server.core.errors import BadAudio, JobNotFound, JobsUnavailable
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.description import described
from whisper_server.jobs.job import Event as JobEvent
from whisper_server.jobs.job import Job, Lease, NewJob, new_id
from whisper_server.jobs.maintenance import MaintenanceTasks
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.local_storage import LocalStorage
from whisper_server.jobs.subscriptions import JobSubscriptions
from whisper_server.jobs.url_fetcher import Fetcher
from whisper_server.jobs.webhooks import Webhooks
from whisper_server.jobs.worker import JobWorker

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds until a broken store is tried again, and between looks for others' jobs, at followed jobs and for old ones.
_REPAIR = 5.0
_POLL = 2.0
_LOOK = 0.5
_SWEEP = 60.0
_LEASE = 30.0


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
    chores: MaintenanceTasks
    held: ExitStack
    running: dict[str, CancelScope] = field(default_factory=dict)


class Jobs:
    def __init__(
        self,
        transcriber: Transcriber,
        data: LocalStorage,
        database: Database,
        *,
        fetcher: Fetcher,
        webhooks: Webhooks,
        limits: Limits,
        enabled: bool = True,
        lease_seconds: float = _LEASE,
    ) -> None:
        self._transcriber = transcriber
        self._data = data
        self._database = database
        self._enabled = enabled
        self._fetcher = fetcher
        self.webhooks = webhooks
        self._limits = limits
        self._lease_seconds = lease_seconds
        self._opened: _Opened | None = None
        self._opening = Lock()
        self._problem = "the store of jobs is not open yet"
        self._news = Event()
        self._limiter = CapacityLimiter(16)
        self._subscriptions = JobSubscriptions(self._limiter)
        self._stopping = False
        self.available = False
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
        self._stopping = True
        self._subscriptions.end()

    # What clients ask for.

    async def submit(
        self,
        owner: str,
        new_jobs: Sequence[NewJob],
        files: Sequence[BinaryIO | None],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> tuple[list[Job], bool]:
        """Save the files and add the jobs; returns these, or the same as ever for a key, and whether they are new."""
        opened = await self._open()
        add = partial(self._add, opened.store, owner, new_jobs, files, idempotency_key, fingerprint)
        jobs, new = await self._blocking(add)
        self._wake()
        return jobs, new

    def _add(
        self,
        store: JobStore,
        owner: str,
        new_jobs: Sequence[NewJob],
        files: Sequence[BinaryIO | None],
        idempotency_key: str | None,
        fingerprint: str,
    ) -> tuple[list[Job], bool]:
        if idempotency_key is not None and (known := store.repeated(owner, idempotency_key, fingerprint)):
            return known, False
        store.check_room(owner, len(new_jobs))
        saved: list[tuple[str, int | None]] = []
        new = False
        try:
            for file in files:
                id = new_id()
                saved.append((id, None))
                if file is not None:
                    saved[-1] = (id, self._data.save(id, file))
            jobs, new = store.add(owner, new_jobs, saved, idempotency_key=idempotency_key, fingerprint=fingerprint)
            return jobs, new
        finally:
            for id, _ in () if new else saved:
                self._data.remove(id)

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
                waiting_for_model=job.state == "queued" and not self._transcriber.serves(job.model),
            )
            for job in jobs
        ]

    async def text(self, job: Job) -> str:
        opened = await self._open()
        return await self._blocking(opened.store.text, job)

    async def transcript(self, job: Job) -> Transcript:
        opened = await self._open()
        return await self._blocking(opened.store.transcript, job)

    @asynccontextmanager
    async def audio(self, job: Job) -> AsyncIterator[Path]:
        """Yield where the job's file is for the block; raises JobNotFound if it is gone."""
        await self._open()
        with ExitStack() as held:
            try:
                path = await self._blocking(held.enter_context, self._data.lasting(job.id))
            except BadAudio as exc:
                raise JobNotFound(f"{job.id}/audio") from exc
            yield path

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
        async for events in self._subscriptions.follow(opened.store, job.id, after=after):
            yield events

    # What goes on by itself.

    async def _keep_serving(self) -> None:
        while True:
            try:
                opened = await self._open()
                async with create_task_group() as group:
                    runner = JobWorker(
                        self._transcriber,
                        opened.leases,
                        self._data,
                        self._fetcher,
                        result_cache=self._limits.result_cache,
                    )
                    for _ in range(self._limits.concurrency):
                        group.start_soon(self._work, opened, runner)
                    for name, chore, interval in self._chores(opened):
                        group.start_soon(self._repeatedly, name, chore, interval)
            except JobsUnavailable:
                await sleep(_REPAIR)
            finally:
                if self._opened is not None and self._stopping:
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
            chores = MaintenanceTasks(store, leases, self._data, self.webhooks)
            return _Opened(store, leases, chores, on_failure.pop_all())

    def _chores(self, opened: _Opened) -> list[tuple[str, Callable[[], Awaitable[object]], float]]:
        return [
            ("renewing leases", partial(self._blocking, opened.chores.renew), self._lease_seconds / 3),
            ("recovering jobs", partial(self._recover, opened), _POLL),
            ("removing old jobs", partial(self._blocking, opened.chores.sweep), _SWEEP),
            ("calling back", partial(self._call_back, opened), _POLL),
            ("looking at jobs", partial(self._look, opened), _LOOK),
        ]

    async def _work(self, opened: _Opened, runner: JobWorker) -> None:
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
                    if opened.running.get(lease.job.id) is scope:
                        del opened.running[lease.job.id]

    async def _claimed(self, opened: _Opened) -> Lease | None:
        try:
            if await self._blocking(opened.leases.waiting, self._transcriber.serves):
                return await self._blocking(opened.leases.claim, self._transcriber.serves)
        except JobsUnavailable:
            await sleep(_REPAIR)  # what fails has been logged
        except Exception:  # nothing about jobs may end the server
            logger.exception("no job can be taken up")
            await sleep(_REPAIR)
        return None

    async def _repeatedly(self, name: str, chore: Callable[[], Awaitable[object]], interval: float) -> None:
        while True:
            try:
                await chore()
                self.available = True
            except JobsUnavailable:
                self.available = False
                await sleep(_REPAIR)  # what fails has been logged
            except Exception:  # nothing about jobs may end the server
                logger.exception("jobs: %s failed", name)
                await sleep(_REPAIR)
            await sleep(interval)

    async def _recover(self, opened: _Opened) -> None:
        if await self._blocking(opened.chores.recover):
            self._wake()
        self.counts = await self._blocking(opened.store.counts)

    async def _call_back(self, opened: _Opened) -> None:
        # A server that stops does not wait for the other side: the callback is due again.
        while await to_thread.run_sync(opened.chores.call_back, abandon_on_cancel=True, limiter=self._limiter):
            pass

    async def _look(self, opened: _Opened) -> None:
        await self._subscriptions.look(opened.store)

    def _stop(self, opened: _Opened, id: str) -> None:
        if id in opened.running:
            opened.running[id].cancel()

    def _wake(self) -> None:
        news, self._news = self._news, Event()
        news.set()

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)
