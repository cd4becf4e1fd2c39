"""What has to be done again and again, whether or not there is a job to work on. Blocking; for threads."""

from __future__ import annotations

import logging

from whisper_server.jobs.description import described
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.local_storage import LocalStorage
from whisper_server.jobs.webhooks import DELAYS, PATIENCE, Webhooks

logger = logging.getLogger(__name__)

# Files that no job wants so long after they were written, or that belong to none at all, are removed.
_UNWANTED = 3600.0
_ORPHANED = 30 * 86_400.0
_MOST_DEATHS = 20


class MaintenanceTasks:
    def __init__(self, store: JobStore, leases: Leases, data: LocalStorage, webhooks: Webhooks) -> None:
        self._store = store
        self._leases = leases
        self._data = data
        self._webhooks = webhooks

    def renew(self) -> None:
        """Keep what this server works on."""
        self._leases.renew()

    def recover(self) -> int:
        """Take up again what dead servers worked on, and return how many jobs these are."""
        return self._leases.recover(self._data.is_dead, most_deaths=_MOST_DEATHS)

    def sweep(self) -> None:
        """Remove jobs that have lived long enough, and files that belong to none."""
        for id in self._store.expire():
            self._data.remove(id)
        unwanted = self._store.unwanted_files(self._data.old(_UNWANTED))
        # No job of this database has these; but it may be a new one in the place of one that comes back.
        orphans = set(self._data.old(_ORPHANED))
        for name in unwanted | (orphans - set(self._store.last_events(orphans))):
            self._data.remove(name)

    def call_back(self) -> bool:
        """Tell whom a job's end has to be told now, and return whether there was somebody."""
        job = self._store.due_callback(patience=PATIENCE)
        if job is None:
            return False
        if self._webhooks.deliver(job, described(job)):
            self._store.settle_callback(job.id, "delivered")
        elif job.callback_attempts > len(DELAYS):
            logger.error("the callback of job %s is given up", job.id)
            self._store.settle_callback(job.id, "failed")
        else:
            self._store.settle_callback(job.id, "pending", delay=DELAYS[job.callback_attempts - 1])
        return True
