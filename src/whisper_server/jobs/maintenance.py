"""Periodic tasks: leases, jobs of servers that have ended, expired jobs, webhooks. All methods block."""

from __future__ import annotations

import logging

from whisper_server.jobs.job import job_json
from whisper_server.jobs.storage.audio_storage import AudioStorage
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.webhooks import ATTEMPT_SECONDS, DELAYS, Webhooks

logger = logging.getLogger(__name__)

# Audio of finished jobs is removed an hour after it was written, audio without a job after 30 days.
_UNUSED_SECONDS = 3600.0
_ORPHANED_SECONDS = 30 * 86_400.0
_MAX_STALLED_RESTARTS = 20


class MaintenanceTasks:
    def __init__(self, store: JobStore, leases: Leases, audio: AudioStorage, webhooks: Webhooks) -> None:
        self._store = store
        self._leases = leases
        self._audio = audio
        self._webhooks = webhooks

    def renew_leases(self) -> None:
        self._leases.renew()

    def recover(self) -> int:
        """Requeue the jobs of servers that have ended, and return their number."""
        return self._leases.recover(self._audio.has_ended, max_stalled_restarts=_MAX_STALLED_RESTARTS)

    def remove_expired(self) -> None:
        """Remove expired jobs, and audio that no job needs."""
        for id in self._store.expire():
            self._audio.remove(id)
        unused = self._store.unused_audio(self._audio.older_than(_UNUSED_SECONDS))
        # The database may be a new one, and the one with these jobs may come back: keep their audio for longer.
        orphans = set(self._audio.older_than(_ORPHANED_SECONDS))
        for name in unused | (orphans - set(self._store.last_events(orphans))):
            self._audio.remove(name)

    def deliver_webhook(self) -> bool:
        """Deliver the next webhook that is due, and return whether there was one."""
        job = self._store.claim_webhook(seconds=ATTEMPT_SECONDS)
        if job is None:
            return False
        if self._webhooks.deliver(job, job_json(job)):
            self._store.settle_webhook(job.id, "delivered")
        elif job.callback_attempts > len(DELAYS):
            logger.error("the webhook of job %s is given up", job.id)
            self._store.settle_webhook(job.id, "failed")
        else:
            self._store.settle_webhook(job.id, "pending", delay=DELAYS[job.callback_attempts - 1])
        return True
