"""Jobs as clients add, list, read and remove them. All methods block."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from whisper_server.core.errors import IdempotencyKeyReused, JobNotFound, JobState, Overloaded, TooManyJobs
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import FINAL, Job, JobEvent, Limits, NewJob, State
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.queries import (
    ALWAYS_DUE,
    UNFINISHED,
    add_event,
    finish_job,
    get_job,
    remove_jobs,
    update_job,
)
from whisper_server.jobs.storage.schema import cache, events, jobs, results, versions
from whisper_server.jobs.storage.transcript_codec import unpack

_RETRY_AFTER = 30


class JobStore:
    """The jobs of one database. `storage` is the name of the storage that has the audio of the jobs added here."""

    def __init__(self, database: Database, storage: str, limits: Limits) -> None:
        self._database = database
        self._storage = storage
        self._limits = limits

    def check_room(self, owner: str, count: int = 1) -> None:
        """Raise TooManyJobs or Overloaded if `count` more jobs would exceed the limits."""
        with self._database.read() as connection:
            self._check_room(connection, owner, count)

    def add(
        self,
        owner: str,
        new_jobs: Sequence[NewJob],
        files: Sequence[tuple[str, int | None]],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> tuple[list[Job], bool]:
        """Add all jobs or none, with the ids and sizes of their files; return them, and whether they are new.

        If there are jobs with the idempotency key already, return those. Raises IdempotencyKeyReused if their
        fingerprint differs, TooManyJobs or Overloaded.
        """
        if idempotency_key is not None and (existing := self.added_with(owner, idempotency_key, fingerprint)):
            return existing, False
        try:
            with self._database.write() as connection:
                self._check_room(connection, owner, len(new_jobs))
                now = self._database.now(connection)
                for number, (new_job, (id, size)) in enumerate(zip(new_jobs, files, strict=True)):
                    row = self._row(owner, new_job, id, size, now)
                    if idempotency_key is not None:
                        row |= {"idempotency_key": idempotency_key, "idempotency_number": number}
                    connection.execute(insert(jobs).values(**row, fingerprint=fingerprint))
                    add_event(connection, id, now, "job.queued")
        except IntegrityError:
            # The same request arrived twice at the same time.
            if idempotency_key is None:
                raise
            return self.added_with(owner, idempotency_key, fingerprint), False
        return [self.get(id, owner) for id, _ in files], True

    def added_with(self, owner: str, idempotency_key: str, fingerprint: str) -> list[Job]:
        """Return the jobs that were added with that key; raises IdempotencyKeyReused."""
        same = (jobs.c.owner == owner, jobs.c.idempotency_key == idempotency_key)
        rows = self._database.rows(select(jobs).where(*same).order_by(jobs.c.idempotency_number))
        if any(row.fingerprint != fingerprint for row in rows):
            raise IdempotencyKeyReused
        return [Job.of(row) for row in rows]

    def get(self, id: str, owner: str | None = None) -> Job:
        """Return a job; raises JobNotFound, also for the job of another owner. Owner None may see all jobs."""
        with self._database.read() as connection:
            return get_job(connection, id, owner)

    def page(
        self,
        owner: str | None,
        *,
        states: Sequence[State] = (),
        model: str = "",
        limit: int = 20,
        newest_first: bool = True,
        after: str = "",
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, and whether there are more; raises JobNotFound if `after` is no job's id."""
        conditions = [jobs.c.owner == owner] if owner is not None else []
        with self._database.read() as connection:
            if after:
                number = get_job(connection, after, owner).number
                conditions.append(jobs.c.number < number if newest_first else jobs.c.number > number)
            if states:
                conditions.append(jobs.c.state.in_(states))
            if model:
                conditions.append(jobs.c.model == model)
            order = jobs.c.number.desc() if newest_first else jobs.c.number
            rows = connection.execute(select(jobs).where(*conditions).order_by(order).limit(limit + 1)).all()
        return [Job.of(row) for row in rows[:limit]], len(rows) > limit

    def positions(self, listed: Sequence[Job]) -> dict[str, int]:
        """Return the number of jobs queued before each queued job of the list, by id."""
        queued = {job.id: job.number for job in listed if job.state == "queued"}
        if not queued:
            return {}
        waiting = (jobs.c.state == "queued", jobs.c.number <= max(queued.values()))
        rows = self._database.rows(select(jobs.c.id).where(*waiting).order_by(jobs.c.number))
        return {row.id: position for position, row in enumerate(rows) if row.id in queued}

    def counts(self) -> Counter[str]:
        """Return the number of jobs in each state."""
        rows = self._database.rows(select(jobs.c.state, func.count().label("total")).group_by(jobs.c.state))
        return Counter({row.state: row.total for row in rows})

    def events(self, id: str, *, after: int = 0, limit: int = 500) -> list[JobEvent]:
        """Return the events of a job with higher numbers than `after`, oldest first."""
        later = (events.c.job_id == id, events.c.number > after)
        rows = self._database.rows(select(events).where(*later).order_by(events.c.number).limit(limit))
        return [JobEvent(row.job_id, row.number, row.kind, row.at, json.loads(row.facts)) for row in rows]

    def last_events(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the number of the last event of each of these jobs that exists."""
        rows = self._database.rows(select(jobs.c.id, jobs.c.last_event).where(jobs.c.id.in_(list(ids))))
        return {row.id: row.last_event for row in rows}

    def text(self, job: Job) -> str:
        """Return the text transcribed so far."""
        if job.state == "succeeded":
            return self.transcript(job).text
        segments = (events.c.job_id == job.id, events.c.kind == "job.segment")
        rows = self._database.rows(select(events.c.facts).where(*segments).order_by(events.c.number))
        return "".join(json.loads(row.facts)["segment"]["text"] for row in rows)

    def transcript(self, job: Job) -> Transcript:
        """Return the result; raises JobState for a job that has not succeeded."""
        if job.state != "succeeded":
            raise _no_result(job)
        rows = self._database.rows(select(results.c.transcript).where(results.c.job_id == job.id))
        if not rows:
            raise JobNotFound(job.id)
        return unpack(rows[0].transcript)

    def cancel(self, id: str, owner: str | None = None) -> Job:
        """Cancel an unfinished job, which ends its lease; raises JobState or JobNotFound."""
        with self._database.write() as connection:
            job = get_job(connection, id, owner, lock=True)
            if job.state in ("succeeded", "failed"):
                raise JobState("job_finished", f"job {id} has {job.state} already")
            if job.state != "cancelled":
                now = self._database.now(connection)
                finish_job(connection, id, "cancelled", {}, now=now, seconds_to_live=self._limits.seconds_to_live)
            return get_job(connection, id, owner)

    def delete(self, id: str, owner: str | None = None) -> None:
        """Remove a job, its events and its result; raises JobNotFound."""
        with self._database.write() as connection:
            get_job(connection, id, owner, lock=True)
            remove_jobs(connection, [id])

    def expire(self) -> list[str]:
        """Remove expired jobs and cache entries, and return the ids of the jobs."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(delete(cache).where(cache.c.expires_at < now))
            undelivered = jobs.c.callback_state == "pending"
            old = select(jobs.c.id).where(jobs.c.expires_at < now, or_(jobs.c.callback_state.is_(None), ~undelivered))
            ids = list(connection.execute(old.limit(500)).scalars())
            remove_jobs(connection, ids)
        return ids

    def unused_audio(self, ids: Iterable[str]) -> set[str]:
        """Return those of the jobs that do not need their audio any more."""
        unused = and_(jobs.c.state.in_(FINAL), ~jobs.c.keep_audio)
        return {row.id for row in self._database.rows(select(jobs.c.id).where(jobs.c.id.in_(list(ids)), unused))}

    def check_writable(self) -> None:
        """Write something that changes nothing; raises JobsUnavailable or StorageFull."""
        with self._database.write() as connection:
            connection.execute(update(versions).values(version=versions.c.version))

    def claim_webhook(self, *, seconds: float) -> Job | None:
        """Return a job whose webhook is due; unless it is settled, it is due again after `seconds`."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            due = and_(jobs.c.callback_state == "pending", jobs.c.callback_due_at <= now)
            first = select(jobs.c.id).where(due).order_by(jobs.c.callback_due_at).limit(1)
            id = connection.execute(first.with_for_update(skip_locked=True)).scalar_one_or_none()
            if id is None:
                return None
            attempts = jobs.c.callback_attempts + 1
            update_job(connection, id, callback_due_at=now + seconds, callback_attempts=attempts)
            return get_job(connection, id)

    def settle_webhook(self, id: str, state: str, *, delay: float = 0.0) -> None:
        """Record that a webhook was `delivered`, has `failed` for good, or is `pending` and due after the delay."""
        with self._database.write() as connection:
            due_at = self._database.now(connection) + delay if state == "pending" else None
            update_job(connection, id, callback_state=state, callback_due_at=due_at)

    def postpone_webhook(self, id: str, delay: float) -> None:
        """Undo a claim: the webhook is due after the delay, and no attempt is counted."""
        with self._database.write() as connection:
            due_at = self._database.now(connection) + delay
            update_job(connection, id, callback_due_at=due_at, callback_attempts=jobs.c.callback_attempts - 1)

    def _row(self, owner: str, new_job: NewJob, id: str, size: int | None, now: float) -> dict[str, Any]:
        return {
            **asdict(new_job),
            "fields": json.dumps(new_job.fields),
            "decoding": json.dumps(dict(new_job.decoding)),
            "handling": json.dumps(dict(new_job.handling)),
            "id": id,
            "owner": owner,
            "created_at": now,
            "due_at": ALWAYS_DUE,
            "file_bytes": size,
            "storage": self._storage,
            "callback_state": "waiting" if new_job.callback_url else None,
        }

    def _check_room(self, connection: Connection, owner: str, count: int) -> None:
        max_jobs, max_own = self._limits.max_jobs, self._limits.max_jobs_of_key
        unfinished = select(func.count()).select_from(jobs).where(jobs.c.state.in_(UNFINISHED))
        if 0 < max_jobs < connection.execute(unfinished).scalar_one() + count:
            raise Overloaded(f"this server accepts {max_jobs} unfinished jobs at a time", _RETRY_AFTER)
        own = unfinished.where(jobs.c.owner == owner)
        if owner and 0 < max_own < connection.execute(own).scalar_one() + count:
            raise TooManyJobs(f"a key may have {max_own} unfinished jobs at a time", _RETRY_AFTER)


def _no_result(job: Job) -> JobState:
    if job.state == "failed":
        return JobState("job_failed", f"job {job.id} has failed: {(job.error or {}).get('message')}")
    if job.state == "cancelled":
        return JobState("job_cancelled", f"job {job.id} was cancelled")
    return JobState("job_not_finished", f"job {job.id} is {job.state}, so there is no result yet")
