"""Runs queued jobs and the periodic tasks of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, move_on_after, sleep, to_thread

from whisper_server.core.errors import JobsUnavailable
from whisper_server.core.notifier import Notifier
from whisper_server.jobs.job import Lease
from whisper_server.jobs.maintenance import MaintenanceTasks
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.subscriptions import JobSubscriptions
from whisper_server.jobs.worker import JobWorker

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In seconds. Polling finds the jobs and events of other servers; this server's own jobs start at once.
RETRY_INTERVAL = 5.0
_POLL_INTERVAL = 2.0
_EVENT_INTERVAL = 0.5
_EXPIRY_INTERVAL = 60.0


class JobScheduler:
    """`available` says whether the last access to the database succeeded; `counts` are the jobs by state."""

    def __init__(
        self,
        store: JobStore,
        leases: Leases,
        worker: JobWorker,
        tasks: MaintenanceTasks,
        subscriptions: JobSubscriptions,
        *,
        serves: Callable[[str], bool],
        concurrency: int,
        lease_seconds: float,
        limiter: CapacityLimiter,
    ) -> None:
        self._store = store
        self._leases = leases
        self._worker = worker
        self._tasks = tasks
        self._subscriptions = subscriptions
        self._serves = serves
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._limiter = limiter
        self._new_jobs = Notifier()
        self._running: dict[str, CancelScope] = {}
        self.available = False
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Run jobs until cancelled; those that run then are released."""
        async with create_task_group() as group:
            for _ in range(self._concurrency):
                group.start_soon(self._run_jobs)
            for name, task, interval in self._periodic():
                group.start_soon(self._repeat, name, task, interval)

    def notify(self) -> None:
        """Look for queued jobs now."""
        self._new_jobs.notify()

    def stop(self, id: str) -> None:
        """Stop a job, if it runs on this server."""
        if id in self._running:
            self._running[id].cancel()

    def _periodic(self) -> list[tuple[str, Callable[[], Awaitable[object]], float]]:
        return [
            ("renewing leases", partial(self._blocking, self._tasks.renew_leases), self._lease_seconds / 3),
            ("recovering jobs", self._recover, _POLL_INTERVAL),
            ("removing expired jobs", partial(self._blocking, self._tasks.remove_expired), _EXPIRY_INTERVAL),
            ("delivering webhooks", self._deliver_webhooks, _POLL_INTERVAL),
            ("polling events", partial(self._subscriptions.poll, self._store), _EVENT_INTERVAL),
        ]

    async def _run_jobs(self) -> None:
        while True:
            new_jobs = self._new_jobs.next
            lease = await self._claim()
            if lease is None:
                with move_on_after(_POLL_INTERVAL):
                    await new_jobs.wait()
                continue
            with CancelScope() as scope:
                self._running[lease.job.id] = scope
                try:
                    await self._worker.run(lease)
                finally:
                    if self._running.get(lease.job.id) is scope:
                        del self._running[lease.job.id]

    async def _claim(self) -> Lease | None:
        try:
            if await self._blocking(self._leases.has_work, self._serves):
                return await self._blocking(self._leases.claim, self._serves)
        except JobsUnavailable:
            await sleep(RETRY_INTERVAL)  # the failure has been logged
        except Exception:  # no error of jobs may stop the server
            logger.exception("no job can be claimed")
            await sleep(RETRY_INTERVAL)
        return None

    async def _repeat(self, name: str, task: Callable[[], Awaitable[object]], interval: float) -> None:
        while True:
            try:
                await task()
                self.available = True
            except JobsUnavailable:
                self.available = False
                await sleep(RETRY_INTERVAL)  # the failure has been logged
            except Exception:  # no error of jobs may stop the server
                logger.exception("%s failed", name)
                await sleep(RETRY_INTERVAL)
            await sleep(interval)

    async def _recover(self) -> None:
        if await self._blocking(self._tasks.recover):
            self.notify()
        self.counts = await self._blocking(self._store.counts)

    async def _deliver_webhooks(self) -> None:
        # A server that stops does not wait for the other side: the webhook is due again later.
        while await to_thread.run_sync(self._tasks.deliver_webhook, abandon_on_cancel=True, limiter=self._limiter):
            pass

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)
