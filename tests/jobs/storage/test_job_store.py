from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from benchmarks.jobs.postgresql import programs, running_postgresql
from whisper_server.core.errors import (
    IdempotencyKeyReused,
    JobNotFound,
    JobState,
    JobsUnavailable,
    LeaseLost,
    Overloaded,
    TooManyJobs,
)
from whisper_server.core.settings import SettingsError
from whisper_server.inference.transcription.segments import Segment, TokenScore, Word
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job, Lease, Limits, NewJob, new_id
from whisper_server.jobs.storage import schema
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.transcript_codec import pack, unpack

STORAGE = "here"
NO_LIMITS = Limits()
EXPIRING = Limits(seconds_to_live=1000)


def every_model(model: str) -> bool:
    return True


def none_ended(server: str) -> bool:
    return False


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    with running_postgresql() as url:
        yield url


NEEDS_POSTGRESQL = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRESQL)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database: SQLite, and PostgreSQL if it is installed."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    else:
        database = Database(request.getfixturevalue("postgresql_url"))
        with database.write() as connection:
            schema.metadata.drop_all(connection)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database, STORAGE, EXPIRING)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, STORAGE, "me", EXPIRING)


def add(store: JobStore, count: int = 1, owner: str = "", **changed: Any) -> list[Job]:
    new_jobs = [NewJob(file_name="a.mp3", model=changed.pop("model", "base"), **changed) for _ in range(count)]
    return store.add(owner, new_jobs, [(new_id(), 10) for _ in new_jobs])[0]


def claim(leases: Leases) -> Lease:
    lease = leases.claim(every_model)
    assert lease is not None
    return lease


def segment(number: int = 0, text: str = " a") -> Segment:
    return Segment(
        seek=number,
        start=0.1,
        end=1.7000000000000002,
        text=text,
        tokens=[50364, 1, 2],
        avg_logprob=-0.30000001192092896,
        compression_ratio=float("nan"),
        no_speech_prob=0.1,
        words=[Word(" a", 0.1, 0.2, 0.5)],
        temperature=0.0,
    )


def segment_json(number: int) -> dict[str, Any]:
    return {"id": number, "start": 0.0, "end": 1.0, "text": f" {number}"}


def event_kinds(store: JobStore, id: str) -> list[str]:
    return [event.kind for event in store.events(id)]


def test_transcripts_are_restored_exactly() -> None:
    scores = [TokenScore(b"\xff\x00", -0.1), TokenScore("ä".encode(), -1e-30)]
    scored = replace(segment(), scores=scores)
    transcript = Transcript([segment(), scored], "de", 12.3, 4)
    assert repr(unpack(pack(transcript))) == repr(transcript)
    assert unpack(pack(Transcript([], "en", 0.0))) == Transcript([], "en", 0.0)


def test_the_oldest_job_is_claimed_first(store: JobStore, leases: Leases) -> None:
    first, second = add(store, 2)
    assert store.positions([first, second]) == {first.id: 0, second.id: 1}
    assert leases.has_work(every_model)
    assert claim(leases).job.id == first.id
    assert store.positions([store.get(first.id), second]) == {second.id: 0}
    assert claim(leases).job.id == second.id
    assert leases.claim(every_model) is None and not leases.has_work(every_model)


def test_only_jobs_of_a_served_model_and_this_storage_are_claimed(
    database: Database, store: JobStore, leases: Leases
) -> None:
    add(store, model="large-v3")
    base = add(store, model="base")[0]
    assert leases.claim(lambda model: model == "tiny") is None
    lease = leases.claim(lambda model: model == "base")
    assert lease is not None and lease.job.id == base.id
    assert Leases(database, "elsewhere", "other", NO_LIMITS).claim(every_model) is None


def test_progress_answers_and_segments_are_stored(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    lease = claim(leases)
    leases.record_audio(lease, audio_seconds=100.0)
    leases.record(lease, "k" * 64, b"answer")
    leases.advance(lease, [segment_json(0), segment_json(1)], seconds=25.0, speed=5.0)
    leases.advance(lease, [segment_json(2)], seconds=20.0, speed=5.0)
    job = store.get(id)
    assert (job.state, job.progress, job.seconds_done, job.speed) == ("running", 0.25, 25.0, 5.0)
    assert job.estimated_finish_at == pytest.approx((job.progress_at or 0) + 15)
    assert leases.answers(lease) == {"k" * 64: b"answer"} and job.segments == 3
    assert store.text(job) == " 0 1 2"
    expected = ["job.queued", "job.started", "job.segment", "job.segment", "job.progress", "job.segment"]
    assert event_kinds(store, id) == expected
    assert [event.number for event in store.events(id, after=3)] == [4, 5, 6]
    assert store.last_events([id, "job_none"]) == {id: 6}


def test_a_released_job_resumes_where_it_was(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    lease = claim(leases)
    leases.record_audio(lease, audio_seconds=100.0)
    leases.record(lease, "k" * 64, b"answer")
    leases.advance(lease, [segment_json(0)], seconds=25.0, speed=5.0)
    leases.release(lease)
    job = store.get(id)
    assert (job.state, job.restarts, job.progress) == ("queued", 1, 0.25)
    again = claim(leases)
    assert leases.answers(again) == {"k" * 64: b"answer"} and (again.job.segments, again.job.seconds_done) == (1, 25.0)
    assert event_kinds(store, id)[-2:] == ["job.requeued", "job.started"]


def test_nothing_can_be_written_with_a_lost_lease(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    old = claim(leases)
    leases.release(old)
    new = claim(leases)
    attempts: list[Callable[[], Any]] = [
        lambda: leases.record(old, "k", b""),
        lambda: leases.advance(old, [], seconds=9.0, speed=None),
        lambda: leases.succeed(old, Transcript([], "en", 1.0), []),
        lambda: leases.fail(old, {"message": "failed"}),
        lambda: leases.record_audio(old, audio_seconds=1.0),
        lambda: leases.answers(old),
        lambda: leases.release(old),
        lambda: leases.retry(old, delay=1),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    leases.succeed(new, Transcript([segment()], "en", 1.0), [segment_json(0)])
    assert store.get(id).state == "succeeded"
    with pytest.raises(LeaseLost):
        leases.succeed(new, Transcript([segment()], "en", 1.0), [segment_json(0)])


def test_the_job_of_a_server_that_ended_is_requeued(database: Database, store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    claim(leases)
    other = Leases(database, STORAGE, "other", NO_LIMITS)
    assert other.recover(none_ended, max_stalled_restarts=3) == 0
    assert other.recover(lambda server: server == "me", max_stalled_restarts=3) == 1
    assert (store.get(id).state, store.get(id).restarts) == ("queued", 1)
    assert store.events(id)[-1].facts == {"reason": "server_died"}


def test_a_lease_that_is_not_renewed_expires(database: Database, store: JobStore) -> None:
    id = add(store)[0].id
    short = Leases(database, STORAGE, "me", Limits(lease_seconds=-1.0))
    claim(short)
    long = Leases(database, STORAGE, "me", Limits(lease_seconds=60))
    long.renew()
    assert long.recover(none_ended, max_stalled_restarts=3) == 0
    short.renew()
    assert long.recover(none_ended, max_stalled_restarts=3) == 1
    assert store.get(id).state == "queued"


def test_a_job_that_ends_every_server_fails_unless_it_makes_progress(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id

    def end_server() -> None:
        claim(leases)
        leases.recover(lambda server: True, max_stalled_restarts=3)

    end_server()
    end_server()
    lease = claim(leases)
    leases.record_audio(lease, audio_seconds=10.0)
    leases.advance(lease, [], seconds=1.0, speed=None)
    leases.recover(lambda server: True, max_stalled_restarts=3)
    end_server()
    assert store.get(id).state == "queued"
    end_server()
    job = store.get(id)
    assert job.state == "failed" and job.error is not None and "ended 3 times" in job.error["message"]


def test_a_retried_job_waits_for_its_delay(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    leases.retry(claim(leases), delay=1000)
    job = store.get(id)
    assert (job.state, job.attempts, job.restarts) == ("queued", 1, 0)
    assert leases.claim(every_model) is None


def test_a_finished_job_has_a_result_and_a_due_webhook(store: JobStore, leases: Leases, database: Database) -> None:
    id = add(store, callback_url="https://hooks.example.org/")[0].id
    with pytest.raises(JobState, match="queued"):
        store.transcript(store.get(id))
    lease = claim(leases)
    leases.record(lease, "k", b"answer")
    assert store.claim_webhook(seconds=60) is None
    transcript = Transcript([segment(0, " a"), segment(1, " b")], "en", 2.0)
    leases.succeed(lease, transcript, [segment_json(1)], cache_key="key")
    job = store.get(id)
    assert (job.state, job.progress, job.audio_seconds, job.language) == ("succeeded", 1.0, 2.0, "en")
    assert job.expires_at == pytest.approx((job.finished_at or 0) + 1000)
    assert repr(store.transcript(job)) == repr(transcript) == repr(leases.cached("key"))
    assert store.text(job) == " a b"
    with database.read() as connection:
        assert connection.execute(select(schema.answers)).all() == []
    for attempt in (lambda: store.cancel(id), lambda: leases.release(lease)):
        with pytest.raises((JobState, LeaseLost)):
            attempt()
    due = store.claim_webhook(seconds=60)
    assert due is not None and (due.id, due.callback_attempts) == (id, 1)
    assert store.claim_webhook(seconds=60) is None
    store.settle_webhook(id, "pending", delay=-1)
    assert store.claim_webhook(seconds=60) is not None
    store.settle_webhook(id, "delivered")
    assert store.get(id).callback_state == "delivered"


def test_failed_and_cancelled_jobs_have_no_result(store: JobStore, leases: Leases) -> None:
    failed, cancelled = add(store, 2)
    leases.fail(claim(leases), {"message": "no audio"})
    lease = claim(leases)
    store.cancel(cancelled.id)
    with pytest.raises(LeaseLost):
        leases.record(lease, "k", b"")
    with pytest.raises(JobState, match="no audio"):
        store.transcript(store.get(failed.id))
    with pytest.raises(JobState, match="cancelled"):
        store.transcript(store.get(cancelled.id))
    assert store.cancel(cancelled.id).state == "cancelled"
    assert store.counts() == {"failed": 1, "cancelled": 1}


def test_expired_jobs_and_cached_results_are_removed(database: Database) -> None:
    expired = Limits(seconds_to_live=-1)
    store, leases = JobStore(database, STORAGE, expired), Leases(database, STORAGE, "me", expired)
    plain, with_webhook, queued = add(store)[0], add(store, callback_url="http://a/")[0], add(store)[0]
    for _ in range(2):
        leases.succeed(claim(leases), Transcript([], "en", 1.0), [], cache_key="key")
    assert store.expire() == [plain.id]
    assert leases.cached("key") is None
    assert store.unused_audio([with_webhook.id, queued.id, "other"]) == {with_webhook.id}
    store.settle_webhook(with_webhook.id, "delivered")
    assert store.expire() == [with_webhook.id]
    with database.read() as connection:
        assert {row.job_id for row in connection.execute(select(schema.events))} == {queued.id}


def test_an_owner_sees_only_its_own_jobs(store: JobStore) -> None:
    mine, other = add(store, owner="me")[0], add(store, owner="you")[0]
    assert store.get(mine.id, "me").id == mine.id and store.get(mine.id).id == mine.id
    for attempt in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFound):
            attempt(other.id, "me")
    assert [job.id for job in store.page("me")[0]] == [mine.id]
    store.delete(mine.id, "me")
    assert store.page("me") == ([], False)


def test_the_number_of_unfinished_jobs_is_limited(database: Database) -> None:
    store = JobStore(database, STORAGE, Limits(max_jobs=3, max_jobs_of_key=1))
    id = add(store, owner="me")[0].id
    with pytest.raises(TooManyJobs):
        add(store, owner="me")
    with pytest.raises(Overloaded):
        add(store, 3)
    store.cancel(id)
    add(store, owner="me")


def test_a_repeated_request_is_added_once(store: JobStore) -> None:
    new_job = NewJob(file_name="a", model="base")

    def send(fingerprint: str) -> tuple[list[Job], bool]:
        return store.add("me", [new_job], [(new_id(), 1)], idempotency_key="k", fingerprint=fingerprint)

    (first,), first_is_new = send("f")
    (second,), second_is_new = send("f")
    assert (first.id, first_is_new, second_is_new) == (second.id, True, False)
    with pytest.raises(IdempotencyKeyReused):
        send("g")


def test_a_newer_database_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(schema.versions).values(version=99))
    with pytest.raises(JobsUnavailable, match="version 99"):
        database.migrate()


def test_an_older_database_is_migrated(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (("ALTER TABLE whisper_jobs ADD COLUMN colour TEXT",),))
    monkeypatch.setattr(schema, "VERSION", 2)
    database.migrate()
    database.migrate()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT colour FROM whisper_jobs").all() == []
        assert connection.execute(select(schema.versions.c.version)).scalar_one() == 2


def test_a_failed_transaction_is_rolled_back(store: JobStore) -> None:
    new_job = NewJob(file_name="a", model="base")
    with pytest.raises(IntegrityError):
        store.add("", [new_job, new_job], [("same", 1), ("same", 1)])
    assert store.page(None) == ([], False)


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(io.BytesIO(b"damaged " * 1000).getvalue())
    with pytest.raises(JobsUnavailable, match="not a database"):
        Database(f"sqlite:///{tmp_path}/jobs.sqlite").migrate()


def test_the_error_of_an_unreachable_database_hides_its_address() -> None:
    with pytest.raises(JobsUnavailable) as caught:
        Database("postgresql://me:secret@127.0.0.1:9/jobs").migrate()
    assert "127.0.0.1" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://me@host/jobs", "nothing"])
def test_unsupported_database_urls_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="--database-url"):
        Database(url)


def test_no_job_is_claimed_by_two_servers(store: JobStore, database: Database) -> None:
    added = {job.id for job in add(store, 20)}
    claimed: list[str] = []

    def claim_all(name: str) -> None:
        leases = Leases(database, STORAGE, name, NO_LIMITS)
        while (lease := leases.claim(every_model)) is not None:
            claimed.append(lease.job.id)

    threads = [Thread(target=claim_all, args=(f"server-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 20 and set(claimed) == added
