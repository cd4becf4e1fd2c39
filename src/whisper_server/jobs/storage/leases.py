"""Leases: which server runs which job, and what a run stores. All methods block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, or_, select, update

from whisper_server.core.errors import LeaseLost
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Lease, Limits, State, progress_json
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.queries import (
    ALWAYS_DUE,
    NO_LEASE,
    add_event,
    expires_at,
    finish_job,
    get_job,
    update_job,
)
from whisper_server.jobs.storage.schema import answers, cache, jobs, results
from whisper_server.jobs.storage.transcript_codec import pack, unpack

# In seconds: before the last attempt to run a job that fails for temporary reasons.
LONGEST_DELAY = 320.0


class Leases:
    """A running job is leased by a server, which renews its leases for as long as it runs.

    Only jobs whose audio is in the storage called `storage` can be claimed. Methods that take a lease raise LeaseLost
    when another server may have taken the job over.
    """

    def __init__(self, database: Database, storage: str, server: str, limits: Limits) -> None:
        self._database = database
        self._storage = storage
        self._server = server
        self._limits = limits

    def claim(self, serves: Callable[[str], bool], *, download: bool = False) -> Lease | None:
        """Lease the job that has been queued for longest, among those whose audio and model are available here.

        With `download`, lease one whose audio must be downloaded first, and otherwise none of these.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            due = self._due(now, download)
            models = _served_models(connection, due, serves)
            if not models:
                return None
            oldest = select(jobs.c.id).where(due, jobs.c.model.in_(models)).order_by(jobs.c.number).limit(1)
            id = connection.execute(oldest.with_for_update(skip_locked=True)).scalar_one_or_none()
            if id is None:
                return None
            token = token_hex(16)
            lease = {"lease": token, "lease_owner": self._server, "lease_until": now + self._limits.lease_seconds}
            started = func.coalesce(jobs.c.started_at, now)
            # The speed is that of the current run.
            update_job(connection, id, state="running", started_at=started, speed=None, progress_at=None, **lease)
            job = get_job(connection, id)
            add_event(connection, id, now, "job.started", restarts=job.restarts)
            return Lease(job, token)

    def has_work(self, serves: Callable[[str], bool], *, download: bool = False) -> bool:
        """Whether there is a job to claim; unlike `claim`, this does not block writers."""
        with self._database.read() as connection:
            return bool(_served_models(connection, self._due(self._database.now(connection), download), serves))

    def _due(self, now: float, download: bool) -> ColumnElement[bool]:
        missing = and_(jobs.c.url != "", jobs.c.file_bytes.is_(None))
        # A delay that is longer than any is due to a clock that was wrong.
        due = or_(jobs.c.due_at <= now, jobs.c.due_at > now + LONGEST_DELAY)
        queued = and_(jobs.c.state == "queued", jobs.c.storage == self._storage, due)
        return and_(queued, missing if download else not_(missing))

    def renew(self, ids: Collection[str]) -> None:
        """Renew this server's leases of these jobs: others, which could not be released, have to expire."""
        with self._database.write() as connection:
            own = and_(jobs.c.state == "running", jobs.c.lease_owner == self._server, jobs.c.id.in_(ids))
            until = self._database.now(connection) + self._limits.lease_seconds
            connection.execute(update(jobs).where(own).values(lease_until=until))

    def recover(self, has_ended: Callable[[str], bool], *, max_stalled_restarts: int) -> int:
        """Requeue the jobs of servers that have ended, and return their number.

        A job fails if it was restarted that often without any progress in between: it may be what ends the servers.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            # Servers that hold a row's lock are running.
            running = select(jobs).where(jobs.c.state == "running").with_for_update(skip_locked=True)
            lost = [
                row
                for row in connection.execute(running).all()
                if row.lease_until < now or (row.storage == self._storage and has_ended(row.lease_owner))
            ]
            for row in lost:
                stalled = row.stuck + 1
                if stalled >= max_stalled_restarts:
                    message = f"the server ended {stalled} times while it worked on the same part of this file"
                    error = {"message": message, "type": "server_error", "param": None, "code": None}
                    self._finish(connection, row.id, "failed", {"error": error}, now)
                else:
                    self._requeue(connection, row.id, now, "server_died", stuck=stalled)
            return len(lost)

    def release(self, lease: Lease, reason: str = "server_stopped", *, delay: float = 0.0) -> None:
        """Requeue a job, to be resumed where it is; it is due after `delay` seconds."""
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            self._requeue(connection, lease.job.id, now, reason, due_at=now + delay if delay else ALWAYS_DUE)

    def retry(self, lease: Lease, *, delay: float) -> None:
        """Requeue a job that failed for a temporary reason; it is due after `delay` seconds."""
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            update_job(connection, lease.job.id, attempts=jobs.c.attempts + 1, due_at=now + delay)
            self._requeue(connection, lease.job.id, now, "retry", restarts=jobs.c.restarts)

    def record_audio(self, lease: Lease, **values: float) -> None:
        """Store the size of the audio, as `file_bytes`, or its length, as `audio_seconds`."""
        with self._database.write() as connection:
            self._check(connection, lease)
            update_job(connection, lease.job.id, **values)

    def answers(self, lease: Lease) -> dict[str, bytes]:
        """Return the model's answers that earlier runs stored, by key."""
        with self._database.read() as connection:
            self._check(connection, lease)
            rows = connection.execute(select(answers).where(answers.c.job_id == lease.job.id)).all()
        return {row.key: bytes(row.answer) for row in rows}

    def record(self, lease: Lease, key: str, answer: bytes) -> None:
        """Store an answer of the model."""
        with self._database.write() as connection:
            self._check(connection, lease)
            connection.execute(insert(answers).values(job_id=lease.job.id, key=key, answer=answer))

    def advance(
        self, lease: Lease, segments: Sequence[Mapping[str, Any]], *, seconds: float, speed: float | None
    ) -> None:
        """Add the events of new segments, and of progress if the run is further than any before it.

        `seconds` of the audio are done; `speed` is in seconds of audio per second.
        """
        id = lease.job.id
        with self._database.write() as connection:
            done_before = self._check(connection, lease)
            now = self._database.now(connection)
            for segment in segments:
                add_event(connection, id, now, "job.segment", segment=segment)
            update_job(connection, id, segments=jobs.c.segments + len(segments), stuck=0)
            if seconds > done_before:
                update_job(connection, id, seconds_done=seconds, speed=speed, progress_at=now)
                add_event(connection, id, now, "job.progress", **progress_json(get_job(connection, id)))

    def succeed(
        self,
        lease: Lease,
        transcript: Transcript,
        segments: Sequence[Mapping[str, Any]],
        *,
        cache_key: str = "",
        cached: bool = False,
    ) -> None:
        """Store the result, also in the cache under a `cache_key`, and add the events of the segments."""
        id = lease.job.id
        packed = pack(transcript)
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            for segment in segments:
                add_event(connection, id, now, "job.segment", segment=segment)
            connection.execute(insert(results).values(job_id=id, transcript=packed))
            if cache_key:
                connection.execute(delete(cache).where(cache.c.key == cache_key))
                entry = {"transcript": packed, "expires_at": expires_at(now, self._limits.seconds_to_live)}
                connection.execute(insert(cache).values(key=cache_key, **entry))
            done = {"audio_seconds": transcript.duration, "seconds_done": transcript.duration}
            facts = {"language": transcript.language, "cached": cached}
            update_job(connection, id, **done, **facts, segments=jobs.c.segments + len(segments))
            facts = {"progress": 1.0, "audio_seconds": transcript.duration, **facts}
            self._finish(connection, id, "succeeded", facts, now)

    def fail(self, lease: Lease, error: Mapping[str, str | None]) -> None:
        """Finish a job with an error of OpenAI's shape: `message`, `type`, `param` and `code`."""
        with self._database.write() as connection:
            self._check(connection, lease)
            self._finish(connection, lease.job.id, "failed", {"error": error}, self._database.now(connection))

    def cached(self, key: str) -> Transcript | None:
        """Return an earlier result of the same audio, model and options."""
        rows = self._database.rows(select(cache.c.transcript).where(cache.c.key == key))
        return unpack(rows[0].transcript) if rows else None

    def _check(self, connection: Connection, lease: Lease) -> float:
        """Lock the job until the end of the transaction and return its `seconds_done`; raises LeaseLost."""
        held = select(jobs.c.seconds_done).where(jobs.c.id == lease.job.id, jobs.c.lease == lease.token)
        seconds_done: float | None = connection.execute(held.with_for_update()).scalar_one_or_none()
        if seconds_done is None:
            raise LeaseLost(f"this server has lost the lease of job {lease.job.id}")
        return seconds_done

    def _requeue(self, connection: Connection, id: str, now: float, reason: str, **changed: Any) -> None:
        update_job(connection, id, state="queued", **{"restarts": jobs.c.restarts + 1, **NO_LEASE, **changed})
        add_event(connection, id, now, "job.requeued", reason=reason)

    def _finish(self, connection: Connection, id: str, state: State, facts: Mapping[str, Any], now: float) -> None:
        finish_job(connection, id, state, facts, now=now, seconds_to_live=self._limits.seconds_to_live)


def _served_models(connection: Connection, due: ColumnElement[bool], serves: Callable[[str], bool]) -> list[str]:
    models = connection.execute(select(jobs.c.model).where(due).distinct()).scalars()
    return [model for model in models if serves(model)]
