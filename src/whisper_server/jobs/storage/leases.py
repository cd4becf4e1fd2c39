"""Who works on which job, and what comes out of it. Blocking; for threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from whisper_server.core.errors import LeaseLost
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Lease
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.queries import NO_LEASE, end_job, expiry, get_job, set_job, tell
from whisper_server.jobs.storage.schema import answers, cache, jobs, results
from whisper_server.jobs.storage.transcript_codec import pack, unpack


class Leases:
    """A job that runs is leased by the server `server`, which renews that for as long as it lives.

    Jobs whose files are in the directory called `storage` can be claimed. Nothing can be written for a lease that is
    lost: that raises LeaseLost.
    """

    def __init__(
        self, database: Database, storage: str, server: str, *, seconds: float = 30.0, seconds_to_live: float = 0.0
    ) -> None:
        self._database = database
        self.storage = storage
        self._server = server
        self._lease_seconds = seconds
        self._seconds_to_live = seconds_to_live

    def claim(self, serves: Callable[[str], bool]) -> Lease | None:
        """Take the job that is queued for longest among those whose file is here and whose model is served."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            due = self._due(now)
            served = _served(connection, due, serves)
            if not served:
                return None
            oldest = select(jobs.c.id).where(due, jobs.c.model.in_(served)).order_by(jobs.c.number).limit(1)
            id = connection.execute(oldest.with_for_update(skip_locked=True)).scalar_one_or_none()
            if id is None:
                return None
            token = token_hex(16)
            lease = {"lease": token, "lease_owner": self._server, "lease_until": now + self._lease_seconds}
            started = func.coalesce(jobs.c.started_at, now)
            # Speed is that of the present run.
            changed = {"state": "running", "started_at": started, "speed": None, "progress_at": None, **lease}
            connection.execute(update(jobs).where(jobs.c.id == id).values(**changed))
            job = get_job(connection, id)
            tell(connection, id, now, "job.started", restarts=job.restarts)
            return Lease(job, token)

    def waiting(self, serves: Callable[[str], bool]) -> bool:
        """Whether there is something to claim: asks without keeping writers out."""
        with self._database.read() as connection:
            return bool(_served(connection, self._due(self._database.now(connection)), serves))

    def _due(self, now: float) -> ColumnElement[bool]:
        return and_(jobs.c.state == "queued", jobs.c.storage == self.storage, jobs.c.due_at <= now)

    def renew(self) -> None:
        """Keep what this server works on."""
        with self._database.write() as connection:
            mine = and_(jobs.c.state == "running", jobs.c.lease_owner == self._server)
            until = self._database.now(connection) + self._lease_seconds
            connection.execute(update(jobs).where(mine).values(lease_until=until))

    def recover(self, is_dead: Callable[[str], bool], *, most_deaths: int) -> int:
        """Queue up again what dead servers worked on, and return how many jobs these are.

        A job under which servers died so often, without any progress meanwhile, fails.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            running = connection.execute(
                # Whoever holds a row now is alive.
                select(jobs).where(jobs.c.state == "running").with_for_update(skip_locked=True)
            )
            lost = [
                row
                for row in running.mappings().all()
                if row["lease_until"] < now or (row["storage"] == self.storage and is_dead(row["lease_owner"]))
            ]
            for row in lost:
                if row["stuck"] + 1 >= most_deaths:
                    message = f"servers died {most_deaths} times while they worked on the same part of this file"
                    end_job(
                        connection,
                        row["id"],
                        "failed",
                        {"error": _error(message, "server_error", None, None)},
                        now=now,
                        seconds_to_live=self._seconds_to_live,
                    )
                else:
                    self._requeue(connection, row["id"], now, "server_died", stuck=row["stuck"] + 1)
            return len(lost)

    def release(self, lease: Lease, reason: str = "server_stopped") -> None:
        """Give a job back, to be taken up again where it is."""
        with self._database.write() as connection:
            self._check(connection, lease)
            self._requeue(connection, lease.job.id, self._database.now(connection), reason)

    def retry(self, lease: Lease, *, delay: float) -> None:
        """Give back a job that failed for reasons that may pass."""
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            set_job(connection, lease.job.id, attempts=jobs.c.attempts + 1, due_at=now + delay)
            self._requeue(connection, lease.job.id, now, "retry", restarts=jobs.c.restarts)

    def received(self, lease: Lease, size: int) -> None:
        """Note the size of a file that was fetched."""
        with self._database.write() as connection:
            self._check(connection, lease)
            set_job(connection, lease.job.id, file_bytes=size)

    def decoded(self, lease: Lease, seconds: float) -> None:
        """Note how long the job's audio is."""
        with self._database.write() as connection:
            self._check(connection, lease)
            set_job(connection, lease.job.id, audio_seconds=seconds)

    def answers(self, lease: Lease) -> dict[str, bytes]:
        """Return what the model has answered so far."""
        with self._database.read() as connection:
            self._check(connection, lease)
            rows = connection.execute(
                select(answers.c.key, answers.c.answer).where(answers.c.job_id == lease.job.id)
            ).all()
        return {key: bytes(answer) for key, answer in rows}

    def record(self, lease: Lease, key: str, answer: bytes) -> None:
        with self._database.write() as connection:
            self._check(connection, lease)
            connection.execute(insert(answers).values(job_id=lease.job.id, key=key, answer=answer))

    def segments(self, lease: Lease) -> int:
        """Return how many segments were told so far."""
        with self._database.read() as connection:
            return int(connection.execute(select(jobs.c.segments).where(jobs.c.id == lease.job.id)).scalar_one())

    def advance(
        self, lease: Lease, segments: Sequence[Mapping[str, Any]], *, seconds: float, speed: float | None
    ) -> None:
        """Note new segments and, if it is further than ever, how far the job has come."""
        with self._database.write() as connection:
            row = self._check(connection, lease)
            now = self._database.now(connection)
            for segment in segments:
                tell(connection, lease.job.id, now, "job.segment", segment=segment)
            set_job(connection, lease.job.id, segments=jobs.c.segments + len(segments), stuck=0)
            if seconds > row.seconds_done:
                set_job(connection, lease.job.id, seconds_done=seconds, speed=speed, progress_at=now)
                job = get_job(connection, lease.job.id)
                facts = {
                    "progress": job.progress,
                    "audio_seconds": job.audio_seconds,
                    "audio_seconds_done": job.seconds_done,
                    "speed": job.speed,
                    "estimated_finish_at": job.estimated_finish_at,
                }
                tell(connection, lease.job.id, now, "job.progress", **facts)

    def succeed(
        self,
        lease: Lease,
        transcript: Transcript,
        segments: Sequence[Mapping[str, Any]],
        *,
        cache_key: str = "",
        cached: bool = False,
    ) -> None:
        """Store the result and the segments that were not told yet."""
        id = lease.job.id
        packed = pack(transcript)
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            for segment in segments:
                tell(connection, id, now, "job.segment", segment=segment)
            connection.execute(insert(results).values(job_id=id, transcript=packed))
            if cache_key and not cached:
                connection.execute(delete(cache).where(cache.c.key == cache_key))
                kept = {"transcript": packed, "expires_at": expiry(now, self._seconds_to_live)}
                connection.execute(insert(cache).values(key=cache_key, **kept))
            done = {"audio_seconds": transcript.duration, "seconds_done": transcript.duration}
            found = {"language": transcript.language, "cached": cached}
            set_job(connection, id, **done, **found, segments=jobs.c.segments + len(segments))
            told = {"progress": 1.0, "audio_seconds": transcript.duration, **found}
            end_job(connection, id, "succeeded", told, now=now, seconds_to_live=self._seconds_to_live)

    def fail(self, lease: Lease, message: str, kind: str, param: str | None, code: str | None) -> None:
        with self._database.write() as connection:
            self._check(connection, lease)
            now = self._database.now(connection)
            end_job(
                connection,
                lease.job.id,
                "failed",
                {"error": _error(message, kind, param, code)},
                now=now,
                seconds_to_live=self._seconds_to_live,
            )

    def cached(self, key: str) -> Transcript | None:
        """Return an earlier result of the same audio, model and options."""
        with self._database.read() as connection:
            packed = connection.execute(select(cache.c.transcript).where(cache.c.key == key)).scalar_one_or_none()
        return unpack(packed) if packed is not None else None

    def _check(self, connection: Connection, lease: Lease) -> Any:
        """Raise LeaseLost unless the job is still this lease's, and keep it so until the end of the transaction."""
        held = select(jobs.c.seconds_done).where(jobs.c.id == lease.job.id, jobs.c.lease == lease.token)
        row = connection.execute(held.with_for_update()).one_or_none()
        if row is None:
            raise LeaseLost(f"job {lease.job.id} is not this server's any more")
        return row

    def _requeue(self, connection: Connection, id: str, now: float, reason: str, **changed: Any) -> None:
        set_job(connection, id, state="queued", **{"restarts": jobs.c.restarts + 1, **NO_LEASE, **changed})
        tell(connection, id, now, "job.requeued", reason=reason)


def _served(connection: Connection, due: ColumnElement[bool], serves: Callable[[str], bool]) -> list[str]:
    """The models of those jobs, as far as they are served here."""
    models = connection.execute(select(jobs.c.model).where(due).distinct()).scalars()
    return [model for model in models if serves(model)]


def _error(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": code}
