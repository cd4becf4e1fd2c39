"""SQL helpers that run inside a transaction on the table of jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from whisper_server.core.errors import JobNotFound
from whisper_server.jobs.job import Job, State
from whisper_server.jobs.storage.schema import answers, events, jobs, results

NO_LEASE = {"lease": None, "lease_owner": None, "lease_until": None}
UNFINISHED = ("queued", "running")
# What is due at once has no time of the clock, which may be set back.
ALWAYS_DUE = 0.0


def get_job(connection: Connection, id: str, owner: str | None = None, *, lock: bool = False) -> Job:
    """Return a job; raises JobNotFound, also for the job of another owner. Owner None may see all jobs."""
    if not id.isprintable():  # PostgreSQL fails on a NUL character
        raise JobNotFound(id)
    query = select(jobs).where(jobs.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or (owner is not None and row.owner != owner):
        raise JobNotFound(id)
    return Job.of(row)


def update_job(connection: Connection, id: str, **values: Any) -> None:
    connection.execute(update(jobs).where(jobs.c.id == id).values(**values))


def add_event(connection: Connection, id: str, at: float, kind: str, **facts: Any) -> None:
    """Add an event with the next number of the job."""
    counted = update(jobs).where(jobs.c.id == id).values(last_event=jobs.c.last_event + 1)
    number = connection.execute(counted.returning(jobs.c.last_event)).scalar_one()
    row = {"job_id": id, "number": number, "kind": kind, "at": at, "facts": json.dumps(facts)}
    connection.execute(insert(events).values(**row))


def expires_at(now: float, seconds_to_live: float) -> float | None:
    """Return the time of expiry; with 0 seconds to live there is none."""
    return now + seconds_to_live if seconds_to_live else None


def finish_job(
    connection: Connection, id: str, state: State, facts: Mapping[str, Any], *, now: float, seconds_to_live: float
) -> None:
    """Put a job in a final state: end its lease, schedule its webhook, and drop its checkpoint."""
    error = {"error": json.dumps(facts["error"])} if "error" in facts else {}
    expiry = expires_at(now, seconds_to_live)
    update_job(connection, id, state=state, finished_at=now, expires_at=expiry, **NO_LEASE, **error)
    webhook = {"callback_state": "pending", "callback_due_at": ALWAYS_DUE}
    connection.execute(update(jobs).where(jobs.c.id == id, jobs.c.callback_url != "").values(**webhook))
    connection.execute(delete(answers).where(answers.c.job_id == id))
    add_event(connection, id, now, f"job.{state}", **facts)


def remove_jobs(connection: Connection, ids: Sequence[str]) -> None:
    for table in (events, answers, results):
        connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
