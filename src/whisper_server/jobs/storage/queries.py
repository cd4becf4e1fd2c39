"""What transactions on the table of jobs are made of: each function is a part of one."""

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


def get_job(connection: Connection, id: str, owner: str | None = None, *, lock: bool = False) -> Job:
    """Return a job; raises JobNotFound, also for that of another owner. None may see all."""
    query = select(jobs).where(jobs.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None or (owner is not None and row["owner"] != owner):
        raise JobNotFound(id)
    return Job.of(row)


def set_job(connection: Connection, id: str, **values: Any) -> None:
    connection.execute(update(jobs).where(jobs.c.id == id).values(**values))


def tell(connection: Connection, id: str, at: float, kind: str, **facts: Any) -> None:
    """Add an event, with the number after the last one's."""
    counted = update(jobs).where(jobs.c.id == id).values(last_event=jobs.c.last_event + 1)
    number = connection.execute(counted.returning(jobs.c.last_event)).scalar_one()
    row = {"job_id": id, "number": number, "kind": kind, "at": at, "facts": json.dumps(facts)}
    connection.execute(insert(events).values(**row))


def expiry(now: float, seconds_to_live: float) -> float | None:
    """Return when that is; 0 is never."""
    return now + seconds_to_live if seconds_to_live else None


def end_job(
    connection: Connection, id: str, state: State, facts: Mapping[str, Any], *, now: float, seconds_to_live: float
) -> None:
    """Bring a job to a final state, for good: nobody works on it any more."""
    error = {"error": json.dumps(facts["error"])} if "error" in facts else {}
    set_job(connection, id, state=state, finished_at=now, expires_at=expiry(now, seconds_to_live), **NO_LEASE, **error)
    called = {"callback_state": "pending", "callback_due_at": now}
    connection.execute(update(jobs).where(jobs.c.id == id, jobs.c.callback_url != "").values(**called))
    connection.execute(delete(answers).where(answers.c.job_id == id))
    tell(connection, id, now, f"job.{state}", **facts)


def remove_jobs(connection: Connection, ids: Sequence[str]) -> None:
    for table in (events, answers, results):
        connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
