"""Jobs for the API: submit, list, follow, cancel.

If the database or the data directory cannot be used, only jobs are unavailable; opening them is retried.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar

from anyio import CancelScope, CapacityLimiter, Lock, create_task_group, sleep, to_thread

from whisper_server.core.errors import BadAudio, JobNotFound, JobsUnavailable
from whisper_server.engine.transcriber import Transcriber
from whisper_server.jobs.job import Job, JobEvent, Limits, NewJob, job_json, new_id
from whisper_server.jobs.scheduler import RETRY_INTERVAL, JobScheduler
from whisper_server.jobs.storage.audio_storage import AudioStorage
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.queries import UNFINISHED
from whisper_server.jobs.subscriptions import JobSubscriptions
from whisper_server.jobs.url_fetcher import Fetcher
from whisper_server.jobs.webhooks import MakeDelivery, Webhooks
from whisper_server.jobs.worker import JobWorker

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OpenJobs:
    """What exists while jobs are available; `resources` are to be closed."""

    store: JobStore
    scheduler: JobScheduler
    resources: ExitStack


class Jobs:
    """All methods may raise JobsUnavailable. An `owner` is the name of an API key; None may see the jobs of all.

    `deliveries` makes what webhooks send, by the response format of the job.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        audio: AudioStorage,
        database: Database,
        *,
        fetcher: Fetcher,
        webhooks: Webhooks,
        limits: Limits,
        enabled: bool = True,
        deliveries: Mapping[str, MakeDelivery] = MappingProxyType({}),
    ) -> None:
        self._transcriber = transcriber
        self._audio = audio
        self._database = database
        self._enabled = enabled
        self.fetcher = fetcher
        self.webhooks = webhooks
        self._deliveries = deliveries
        self._limits = limits
        self._opened: _OpenJobs | None = None
        self._opening = Lock()
        self._opening_problem: JobsUnavailable | None = None
        self._limiter = CapacityLimiter(16)
        self._subscriptions = JobSubscriptions(self._limiter)
        self._stopping = False

    @property
    def available(self) -> bool:
        return self._opened is not None and self.problem is None

    @property
    def problem(self) -> JobsUnavailable | None:
        """Why jobs cannot be stored now; None if they can, or if this server has none."""
        if not self._enabled:
            return None
        return self._opened.scheduler.problem if self._opened is not None else self._opening_problem

    @property
    def counts(self) -> Counter[str]:
        """The number of jobs by state, a few seconds old."""
        return self._opened.scheduler.counts if self._opened is not None else Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run jobs during the block; those that run at its end are released."""
        async with create_task_group() as group:
            if self._enabled:
                group.start_soon(self._serve)
            try:
                yield
            finally:
                self.end_events()
                group.cancel_scope.cancel()

    def end_events(self) -> None:
        """End the event streams, as the server stops; clients reconnect to the next server."""
        self._stopping = True
        self._subscriptions.close()

    async def submit(
        self,
        owner: str,
        new_jobs: Sequence[NewJob],
        files: Sequence[BinaryIO | None],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> tuple[list[Job], bool]:
        """Store the files and add the jobs; return them, and whether they are new.

        For an idempotency key that was used before, return the jobs of that time. Raises IdempotencyKeyReused,
        TooManyJobs or Overloaded.
        """
        opened = await self._open()
        store = opened.store

        def add() -> tuple[list[Job], bool]:
            if idempotency_key is not None and (existing := store.added_with(owner, idempotency_key, fingerprint)):
                return existing, False
            store.check_room(owner, len(new_jobs))
            stored: list[tuple[str, int | None]] = []
            with ExitStack() as cleanup:
                for file in files:
                    id = new_id()
                    cleanup.callback(self._audio.remove, id)
                    stored.append((id, self._audio.save(id, file) if file is not None else None))
                jobs, new = store.add(owner, new_jobs, stored, idempotency_key=idempotency_key, fingerprint=fingerprint)
                if new:
                    cleanup.pop_all()
            return jobs, new

        jobs, new = await self._blocking(add)
        opened.scheduler.notify()
        return jobs, new

    async def query(self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of JobStore that changes nothing, such as `query(JobStore.get, id, owner)`."""
        opened = await self._open()
        return await self._blocking(partial(method, opened.store, *args, **kwargs))

    async def to_json(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Return the jobs as clients see them."""
        positions = await self.query(JobStore.positions, jobs)
        return [
            job_json(
                job,
                position=positions.get(job.id),
                waiting_for_model=job.state == "queued" and not self._transcriber.serves(job.model),
                waiting_for_storage=job.state in UNFINISHED and self.problem is not None,
            )
            for job in jobs
        ]

    @asynccontextmanager
    async def audio(self, job: Job) -> AsyncIterator[Path]:
        """Yield a path of the job's audio for the block; raises JobNotFound if it was removed."""
        await self._open()
        with ExitStack() as stack:
            try:
                path = await self._blocking(stack.enter_context, self._audio.local_path(job.id))
            except BadAudio as exc:
                raise JobNotFound(f"{job.id}/audio") from exc
            yield path

    async def cancel(self, id: str, owner: str | None) -> Job:
        """Raises JobNotFound, or JobState for a job that is finished."""
        opened = await self._open()
        job = await self._blocking(opened.store.cancel, id, owner)
        opened.scheduler.stop(id)
        if not job.keep_audio:
            await self._blocking(self._audio.remove, id)
        return job

    async def delete(self, id: str, owner: str | None) -> None:
        """Raises JobNotFound."""
        opened = await self._open()
        await self._blocking(opened.store.delete, id, owner)
        opened.scheduler.stop(id)
        await self._blocking(self._audio.remove, id)

    async def follow(self, job: Job, *, after: int) -> AsyncIterator[list[JobEvent]]:
        """As JobSubscriptions.follow()."""
        opened = await self._open()
        async for events in self._subscriptions.follow(opened.store, job.id, after=after):
            yield events

    async def _serve(self) -> None:
        while True:
            try:
                opened = await self._open()
                await opened.scheduler.run()
            except JobsUnavailable:
                await sleep(RETRY_INTERVAL)
            finally:
                if self._opened is not None and self._stopping:
                    with CancelScope(shield=True):
                        await self._blocking(self._opened.resources.close)

    async def _open(self) -> _OpenJobs:
        if not self._enabled:
            raise JobsUnavailable("this server accepts no jobs (--no-jobs)")
        async with self._opening:
            if self._opened is None:
                try:
                    self._opened = await self._blocking(self._open_now)
                except JobsUnavailable as exc:
                    if str(exc) != str(self._opening_problem):
                        logger.error("jobs are not available: %s", exc)
                    self._opening_problem = exc
                    raise
                logger.debug("jobs are stored in %s", self._audio.path)
        return self._opened

    def _open_now(self) -> _OpenJobs:
        with ExitStack() as stack:
            self._audio.open()
            stack.callback(self._database.close)
            self._database.migrate()
            server = stack.enter_context(self._audio.register_server())
            store = JobStore(self._database, self._audio.name, self._limits)
            leases = Leases(self._database, self._audio.name, server, self._limits)
            scheduler = JobScheduler(
                store=store,
                leases=leases,
                audio=self._audio,
                worker=JobWorker(self._transcriber, leases, self._audio, self.fetcher, self._limits.result_cache),
                webhooks=self.webhooks,
                deliveries=self._deliveries,
                subscriptions=self._subscriptions,
                serves=self._transcriber.serves,
                limits=self._limits,
                limiter=self._limiter,
            )
            return _OpenJobs(store, scheduler, stack.pop_all())

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)
