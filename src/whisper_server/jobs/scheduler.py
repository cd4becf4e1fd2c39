"""Runs queued jobs and the periodic tasks of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, Semaphore, create_task_group, move_on_after, sleep, to_thread
from anyio.abc import TaskGroup

from whisper_server.core.errors import JobNotFound, JobsUnavailable
from whisper_server.core.notifier import Notifier
from whisper_server.jobs.job import Job, Lease, Limits, job_json
from whisper_server.jobs.storage.audio_storage import AudioStorage
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.subscriptions import JobSubscriptions
from whisper_server.jobs.webhooks import ATTEMPT_SECONDS, DELAYS, Delivery, MakeDelivery, Webhooks, job_event
from whisper_server.jobs.worker import JobWorker

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In seconds. Polling finds the jobs and events of other servers; this server's own jobs start at once.
RETRY_INTERVAL = 5.0
_POLL_INTERVAL = 2.0
_EVENT_INTERVAL = 0.5
_EXPIRY_INTERVAL = 60.0
# Audio of finished jobs is removed an hour after it was written, audio without a job after 30 days.
_UNUSED_SECONDS = 3600.0
_ORPHANED_SECONDS = 30 * 86_400.0
_MAX_STALLED_RESTARTS = 20
# Other hosts may be slow: this many webhooks are delivered, and files downloaded, beside the jobs that run.
_MAX_DELIVERIES = 16
_MAX_DOWNLOADS = 16


@dataclass(eq=False, kw_only=True)
class JobScheduler:
    """`problem` says why jobs cannot be stored, None if they can; `counts` are the jobs by state.

    Only jobs whose model this server `serves` are run. `deliveries` makes what the webhooks of some response formats
    send; the others send an event.
    """

    store: JobStore
    leases: Leases
    audio: AudioStorage
    worker: JobWorker
    webhooks: Webhooks
    deliveries: Mapping[str, MakeDelivery]
    subscriptions: JobSubscriptions
    serves: Callable[[str], bool]
    limits: Limits
    limiter: CapacityLimiter
    problem: JobsUnavailable | None = field(default=None, init=False)
    counts: Counter[str] = field(default_factory=Counter, init=False)
    _new_jobs: Notifier = field(default_factory=Notifier, init=False)
    _running: dict[str, CancelScope] = field(default_factory=dict, init=False)
    _downloads: int = field(default=0, init=False)
    _deliveries: int = field(default=0, init=False)
    _delivery_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_MAX_DELIVERIES), init=False)

    async def run(self) -> None:
        """Run jobs until cancelled; those that run then are released."""
        async with create_task_group() as group:

            def repeat(name: str, task: Callable[[], Awaitable[object]], interval: float) -> None:
                group.start_soon(self._repeat, name, task, interval)

            slots = Semaphore(self.limits.concurrency)
            for _ in range(self.limits.concurrency):
                repeat("claiming a job", partial(self._run_next_job, slots), 0.0)
            if self.limits.concurrency:
                repeat("claiming a download", partial(self._start_downloads, group, slots), 0.0)
            repeat("renewing leases", self._renew_leases, self.limits.lease_seconds / 3)
            repeat("recovering jobs", self._recover, _POLL_INTERVAL)
            repeat("removing expired jobs", partial(self._blocking, self._remove_expired), _EXPIRY_INTERVAL)
            repeat("claiming a webhook", partial(self._start_deliveries, group), _POLL_INTERVAL)
            repeat("polling events", partial(self.subscriptions.poll, self.store), _EVENT_INTERVAL)

    def notify(self) -> None:
        """Look for queued jobs now."""
        self._new_jobs.notify()

    def stop(self, id: str) -> None:
        """Stop a job, if it runs on this server."""
        if id in self._running:
            self._running[id].cancel()

    async def _repeat(self, name: str, task: Callable[[], Awaitable[object]], interval: float) -> None:
        while True:
            if not await self._attempt(name, task):
                await sleep(RETRY_INTERVAL)
            await sleep(interval)

    async def _attempt(self, name: str, task: Callable[[], Awaitable[object]]) -> bool:
        """Return whether the task succeeds; no error of jobs may stop the server."""
        try:
            await task()
        except JobsUnavailable as exc:
            if str(self.problem) != str(exc):
                logger.error("jobs stop until they can be stored: %s", exc)
            self.problem = exc
            return False
        except Exception:
            logger.exception("%s failed", name)
            return False
        return True

    async def _run_next_job(self, slots: Semaphore) -> None:
        """Claim and run a job; if there is none, wait until there may be one."""
        new_jobs = self._new_jobs.next
        async with slots:
            if (lease := await self._claim()) is not None:
                return await self._run(lease, nullcontext())
        with move_on_after(_POLL_INTERVAL):
            await new_jobs.wait()

    async def _start_downloads(self, group: TaskGroup, slots: Semaphore) -> None:
        """Claim the jobs whose audio must be downloaded, then wait until there may be others."""
        new_jobs = self._new_jobs.next
        while self._downloads < _MAX_DOWNLOADS and (lease := await self._claim(download=True)) is not None:
            self._downloads += 1
            group.start_soon(self._attempt, "a job with a URL", partial(self._download_and_run, lease, slots))
        with move_on_after(_POLL_INTERVAL):
            await new_jobs.wait()

    async def _download_and_run(self, lease: Lease, slots: Semaphore) -> None:
        try:
            await self._run(lease, slots)
        finally:
            self._downloads -= 1
            self.notify()

    async def _claim(self, *, download: bool = False) -> Lease | None:
        has_work = await self._blocking(partial(self.leases.has_work, self.serves, download=download))
        claim = partial(self.leases.claim, self.serves, download=download)
        return await self._blocking(claim) if has_work else None

    async def _run(self, lease: Lease, slot: AbstractAsyncContextManager[object]) -> None:
        with CancelScope() as scope:
            self._running[lease.job.id] = scope
            try:
                await self.worker.run(lease, slot)
            finally:
                if self._running.get(lease.job.id) is scope:
                    del self._running[lease.job.id]

    async def _renew_leases(self) -> None:
        await self._blocking(self.leases.renew, list(self._running))

    async def _recover(self) -> None:
        """Requeue the jobs of servers that have ended, and find out whether jobs can be stored again."""
        if self.problem is not None:
            await self._blocking(self.store.check_writable)
        recover = partial(self.leases.recover, self.audio.has_ended, max_stalled_restarts=_MAX_STALLED_RESTARTS)
        if await self._blocking(recover):
            self.notify()
        self.counts = await self._blocking(self.store.counts)
        self.problem = None

    def _remove_expired(self) -> None:
        """Remove expired jobs, and audio that no job needs."""
        for id in self.store.expire():
            self.audio.remove(id)
        unused = self.store.unused_audio(self.audio.older_than(_UNUSED_SECONDS))
        # The database may be a new one, and the one with these jobs may come back: keep their audio for longer.
        orphans = set(self.audio.older_than(_ORPHANED_SECONDS))
        for name in unused | (orphans - set(self.store.last_events(orphans))):
            self.audio.remove(name)

    async def _start_deliveries(self, group: TaskGroup) -> None:
        while self._deliveries < _MAX_DELIVERIES and (job := await self._blocking(self._claim_webhook)) is not None:
            self._deliveries += 1
            group.start_soon(self._attempt, "delivering webhooks", partial(self._deliver_webhooks, job))

    async def _deliver_webhooks(self, job: Job | None) -> None:
        """Deliver the webhook of a job, and then others as long as there are any that are due."""
        try:
            while job is not None:
                # A server that stops does not wait for the receiver: the webhook is due again later.
                deliver = partial(self._deliver_webhook, job)
                await to_thread.run_sync(deliver, abandon_on_cancel=True, limiter=self._delivery_threads)
                job = await self._blocking(self._claim_webhook)
        finally:
            self._deliveries -= 1

    def _claim_webhook(self) -> Job | None:
        return self.store.claim_webhook(seconds=ATTEMPT_SECONDS)

    def _deliver_webhook(self, job: Job) -> None:
        """Make one attempt, and record its result."""
        if pause := self.webhooks.pause(job.callback_url):
            self.store.postpone_webhook(job.id, pause)
        elif self.webhooks.deliver(job, self._delivery(job)):
            self.store.settle_webhook(job.id, "delivered")
        elif job.callback_attempts > len(DELAYS):
            logger.error("no more attempts are made to deliver the webhook of job %s", job.id)
            self.store.settle_webhook(job.id, "failed")
        else:
            self.store.settle_webhook(job.id, "pending", delay=DELAYS[job.callback_attempts - 1])

    def _delivery(self, job: Job) -> Delivery:
        """Return what the webhook of the job sends, in the form that belongs to its response format."""
        if (make := self.deliveries.get(job.response_format)) is None:
            return job_event(job, job_json(job))
        transcript = None
        if job.state == "succeeded":
            with suppress(JobNotFound):  # it was removed a moment ago
                transcript = self.store.transcript(job)
        return make(job, transcript)

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self.limiter)
