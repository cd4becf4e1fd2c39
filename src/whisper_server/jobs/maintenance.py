"""Periodic tasks: jobs of servers that have ended, expired jobs, webhooks. All methods block."""

from __future__ import annotations

import logging
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class MaintenanceTasks:
    store: JobStore
    leases: Leases
    audio: AudioStorage
    webhooks: Webhooks

    def recover(self) -> int:
        """Requeue the jobs of servers that have ended, and return their number."""
        return self.leases.recover(self.audio.has_ended, max_stalled_restarts=_MAX_STALLED_RESTARTS)

    def remove_expired(self) -> None:
        """Remove expired jobs, and audio that no job needs."""
        for id in self.store.expire():
            self.audio.remove(id)
        unused = self.store.unused_audio(self.audio.older_than(_UNUSED_SECONDS))
        # The database may be a new one, and the one with these jobs may come back: keep their audio for longer.
        orphans = set(self.audio.older_than(_ORPHANED_SECONDS))
        for name in unused | (orphans - set(self.store.last_events(orphans))):
            self.audio.remove(name)

    def deliver_webhook(self) -> bool:
        """Deliver the next webhook that is due, and return whether there was one."""
        job = self.store.claim_webhook(seconds=ATTEMPT_SECONDS)
        if job is None:
            return False
        if self.webhooks.deliver(job, job_json(job)):
            self.store.settle_webhook(job.id, "delivered")
        elif job.callback_attempts > len(DELAYS):
            logger.error("no more attempts are made to deliver the webhook of job %s", job.id)
            self.store.settle_webhook(job.id, "failed")
        else:
            self.store.settle_webhook(job.id, "pending", delay=DELAYS[job.callback_attempts - 1])
        return True
