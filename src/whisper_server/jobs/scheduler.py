"""Runs queued jobs and the periodic tasks of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, move_on_after, sleep, to_thread

from whisper_server.core.errors import JobsUnavailable
from whisper_server.core.notifier import Notifier
from whisper_server.jobs.job import Lease, Limits
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


@dataclass(eq=False, kw_only=True)
class JobScheduler:
    """`available` says whether the last access to the database succeeded; `counts` are the jobs by state.

    Only jobs whose model this server `serves` are run.
    """

    store: JobStore
    leases: Leases
    worker: JobWorker
    tasks: MaintenanceTasks
    subscriptions: JobSubscriptions
    serves: Callable[[str], bool]
    limits: Limits
    limiter: CapacityLimiter
    available: bool = field(default=False, init=False)
    counts: Counter[str] = field(default_factory=Counter, init=False)
    _new_jobs: Notifier = field(default_factory=Notifier, init=False)
    _running: dict[str, CancelScope] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Run jobs until cancelled; those that run then are released."""
        async with create_task_group() as group:
            for _ in range(self.limits.concurrency):
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
            ("renewing leases", partial(self._blocking, self.leases.renew), self.limits.lease_seconds / 3),
            ("recovering jobs", self._recover, _POLL_INTERVAL),
            ("removing expired jobs", partial(self._blocking, self.tasks.remove_expired), _EXPIRY_INTERVAL),
            ("delivering webhooks", self._deliver_webhooks, _POLL_INTERVAL),
            ("polling events", partial(self.subscriptions.poll, self.store), _EVENT_INTERVAL),
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
                    await self.worker.run(lease)
                finally:
                    if self._running.get(lease.job.id) is scope:
                        del self._running[lease.job.id]

    async def _claim(self) -> Lease | None:
        try:
            if await self._blocking(self.leases.has_work, self.serves):
                return await self._blocking(self.leases.claim, self.serves)
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
        if await self._blocking(self.tasks.recover):
            self.notify()
        self.counts = await self._blocking(self.store.counts)

    async def _deliver_webhooks(self) -> None:
        # A server that stops does not wait for the other side: the webhook is due again later.
        while await to_thread.run_sync(self.tasks.deliver_webhook, abandon_on_cancel=True, limiter=self.limiter):
            pass

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self.limiter)
