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
from whisper_server.jobs.job import Job, Lease, NewJob, new_id
from whisper_server.jobs.storage import schema
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.transcript_codec import pack, unpack

STORAGE = "here"


def everything(model: str) -> bool:
    return True


def nobody(server: str) -> bool:
    return False


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    with running_postgresql() as url:
        yield url


WITHOUT = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=WITHOUT)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty one of either kind."""
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
    return JobStore(database, STORAGE, seconds_to_live=1000)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, STORAGE, "me", seconds_to_live=1000)


def add(store: JobStore, count: int = 1, owner: str = "", **changed: Any) -> list[Job]:
    new_jobs = [NewJob(file_name="a.mp3", model=changed.pop("model", "base"), **changed) for _ in range(count)]
    return store.add(owner, new_jobs, [(new_id(), 10) for _ in new_jobs])[0]


def claimed(leases: Leases) -> Lease:
    lease = leases.claim(everything)
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


def told(number: int) -> dict[str, Any]:
    return {"id": number, "start": 0.0, "end": 1.0, "text": f" {number}"}


def kinds(store: JobStore, id: str) -> list[str]:
    return [event.kind for event in store.events(id)]


def test_transcripts_come_back_as_they_were() -> None:
    scores = [TokenScore(b"\xff\x00", -0.1), TokenScore("ä".encode(), -1e-30)]
    scored = replace(segment(), scores=scores)
    transcript = Transcript([segment(), scored], "de", 12.3, 4)
    again = unpack(pack(transcript))
    assert repr(again) == repr(transcript)
    assert unpack(pack(Transcript([], "en", 0.0))) == Transcript([], "en", 0.0)


def test_the_longest_waiting_job_is_taken_first(store: JobStore, leases: Leases) -> None:
    first, second = add(store, 2)
    assert store.positions([first, second]) == {first.id: 0, second.id: 1}
    assert leases.has_work(everything)
    assert claimed(leases).job.id == first.id
    assert store.positions([store.get(first.id), second]) == {second.id: 0}
    assert claimed(leases).job.id == second.id
    assert leases.claim(everything) is None and not leases.has_work(everything)


def test_only_jobs_of_a_served_model_and_this_directory_are_taken(
    database: Database, store: JobStore, leases: Leases
) -> None:
    add(store, model="large-v3")
    small = add(store, model="base")[0]
    assert leases.claim(lambda model: model == "tiny") is None
    lease = leases.claim(lambda model: model == "base")
    assert lease is not None and lease.job.id == small.id
    assert Leases(database, "elsewhere", "other").claim(everything) is None


def test_progress_answers_and_segments_are_kept(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    lease = claimed(leases)
    leases.record_duration(lease, 100.0)
    leases.record(lease, "k" * 64, b"response")
    leases.advance(lease, [told(0), told(1)], seconds=25.0, speed=5.0)
    leases.advance(lease, [told(2)], seconds=20.0, speed=5.0)
    job = store.get(id)
    assert (job.state, job.progress, job.seconds_done, job.speed) == ("running", 0.25, 25.0, 5.0)
    assert job.estimated_finish_at == pytest.approx((job.progress_at or 0) + 15)
    assert leases.answers(lease) == {"k" * 64: b"response"} and leases.segment_count(lease) == 3
    assert store.text(job) == " 0 1 2"
    expected = ["job.queued", "job.started", "job.segment", "job.segment", "job.progress", "job.segment"]
    assert kinds(store, id) == expected
    assert [event.number for event in store.events(id, after=3)] == [4, 5, 6]
    assert store.last_events([id, "job_none"]) == {id: 6}


def test_a_released_job_is_taken_up_where_it_was(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    lease = claimed(leases)
    leases.record_duration(lease, 100.0)
    leases.record(lease, "k" * 64, b"response")
    leases.advance(lease, [told(0)], seconds=25.0, speed=5.0)
    leases.release(lease)
    job = store.get(id)
    assert (job.state, job.restarts, job.progress) == ("queued", 1, 0.25)
    again = claimed(leases)
    assert leases.answers(again) == {"k" * 64: b"response"} and leases.segment_count(again) == 1
    assert again.job.seconds_done == 25.0
    assert kinds(store, id)[-2:] == ["job.requeued", "job.started"]


def test_whoever_has_lost_the_lease_can_write_nothing(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    old = claimed(leases)
    leases.release(old)
    new = claimed(leases)
    attempts: list[Callable[[], Any]] = [
        lambda: leases.record(old, "k", b""),
        lambda: leases.advance(old, [], seconds=9.0, speed=None),
        lambda: leases.succeed(old, Transcript([], "en", 1.0), []),
        lambda: leases.fail(old, "no", "server_error", None, None),
        lambda: leases.record_duration(old, 1.0),
        lambda: leases.record_size(old, 1),
        lambda: leases.answers(old),
        lambda: leases.release(old),
        lambda: leases.retry(old, delay=1),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    leases.succeed(new, Transcript([segment()], "en", 1.0), [told(0)])
    assert store.get(id).state == "succeeded"
    with pytest.raises(LeaseLost):
        leases.succeed(new, Transcript([segment()], "en", 1.0), [told(0)])


def test_a_dead_servers_job_is_taken_up_again(database: Database, store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    claimed(leases)
    other = Leases(database, STORAGE, "other")
    assert other.recover(nobody, max_stalled_restarts=3) == 0
    assert other.recover(lambda server: server == "me", max_stalled_restarts=3) == 1
    assert (store.get(id).state, store.get(id).restarts) == ("queued", 1)
    assert store.events(id)[-1].facts == {"reason": "server_died"}


def test_a_lease_that_is_not_renewed_ends(database: Database, store: JobStore) -> None:
    id = add(store)[0].id
    short = Leases(database, STORAGE, "me", seconds=-1.0)
    claimed(short)
    long = Leases(database, STORAGE, "me", seconds=60)
    long.renew()
    assert long.recover(nobody, max_stalled_restarts=3) == 0
    short.renew()
    assert long.recover(nobody, max_stalled_restarts=3) == 1
    assert store.get(id).state == "queued"


def test_a_job_that_kills_every_server_fails_unless_it_comes_further(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id

    def die() -> None:
        claimed(leases)
        leases.recover(lambda server: True, max_stalled_restarts=3)

    die()
    die()
    lease = claimed(leases)
    leases.record_duration(lease, 10.0)
    leases.advance(lease, [], seconds=1.0, speed=None)
    leases.recover(lambda server: True, max_stalled_restarts=3)
    die()
    assert store.get(id).state == "queued"
    die()
    job = store.get(id)
    assert job.state == "failed" and job.error is not None and "ended 3 times" in job.error["message"]


def test_a_job_that_may_be_tried_again_waits(store: JobStore, leases: Leases) -> None:
    id = add(store)[0].id
    leases.retry(claimed(leases), delay=1000)
    job = store.get(id)
    assert (job.state, job.attempts, job.restarts) == ("queued", 1, 0)
    assert leases.claim(everything) is None


def test_the_end_of_a_job(store: JobStore, leases: Leases, database: Database) -> None:
    id = add(store, callback_url="https://hooks.example.org/")[0].id
    with pytest.raises(JobState, match="queued"):
        store.transcript(store.get(id))
    lease = claimed(leases)
    leases.record(lease, "k", b"response")
    assert store.claim_webhook(seconds=60) is None
    transcript = Transcript([segment(0, " a"), segment(1, " b")], "en", 2.0)
    leases.succeed(lease, transcript, [told(1)], cache_key="key")
    job = store.get(id)
    assert (job.state, job.progress, job.audio_seconds, job.language) == ("succeeded", 1.0, 2.0, "en")
    assert job.expires_at == pytest.approx((job.finished_at or 0) + 1000)
    assert repr(store.transcript(job)) == repr(transcript) == repr(leases.cached("key"))
    assert store.text(job) == " a b"
    with database.read() as connection:
        assert connection.execute(select(schema.answers)).all() == []
    for late in (lambda: store.cancel(id), lambda: leases.release(lease)):
        with pytest.raises((JobState, LeaseLost)):
            late()
    due = store.claim_webhook(seconds=60)
    assert due is not None and (due.id, due.callback_attempts) == (id, 1)
    assert store.claim_webhook(seconds=60) is None
    store.settle_webhook(id, "pending", delay=-1)
    assert store.claim_webhook(seconds=60) is not None
    store.settle_webhook(id, "delivered")
    assert store.get(id).callback_state == "delivered"


def test_a_job_that_failed_or_was_cancelled_has_no_result(store: JobStore, leases: Leases) -> None:
    failed, cancelled = add(store, 2)
    leases.fail(claimed(leases), "no audio", "invalid_request_error", "file", "invalid_audio")
    lease = claimed(leases)
    store.cancel(cancelled.id)
    with pytest.raises(LeaseLost):
        leases.record(lease, "k", b"")
    with pytest.raises(JobState, match="no audio"):
        store.transcript(store.get(failed.id))
    with pytest.raises(JobState, match="cancelled"):
        store.transcript(store.get(cancelled.id))
    assert store.cancel(cancelled.id).state == "cancelled"
    assert store.counts() == {"failed": 1, "cancelled": 1}


def test_old_jobs_and_results_go(database: Database) -> None:
    short = JobStore(database, STORAGE, seconds_to_live=-1)
    leases = Leases(database, STORAGE, "me", seconds_to_live=-1)
    done, called, waiting = add(short)[0], add(short, callback_url="http://a/")[0], add(short)[0]
    for _ in range(2):
        leases.succeed(claimed(leases), Transcript([], "en", 1.0), [], cache_key="key")
    assert short.expire() == [done.id]
    assert leases.cached("key") is None
    assert short.unused_audio([called.id, waiting.id, "other"]) == {called.id}
    short.settle_webhook(called.id, "delivered")
    assert short.expire() == [called.id]
    with database.read() as connection:
        assert {row.job_id for row in connection.execute(select(schema.events))} == {waiting.id}


def test_jobs_are_their_owners(store: JobStore) -> None:
    mine, other = add(store, owner="me")[0], add(store, owner="you")[0]
    assert store.get(mine.id, "me").id == mine.id and store.get(mine.id).id == mine.id
    for attempt in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFound):
            attempt(other.id, "me")
    assert [job.id for job in store.page("me")[0]] == [mine.id]
    store.delete(mine.id, "me")
    assert store.page("me") == ([], False)


def test_there_may_be_only_so_many(database: Database) -> None:
    store = JobStore(database, STORAGE, max_jobs=3, max_jobs_of_owner=1)
    id = add(store, owner="me")[0].id
    with pytest.raises(TooManyJobs):
        add(store, owner="me")
    with pytest.raises(Overloaded):
        add(store, 3)
    store.cancel(id)
    add(store, owner="me")


def test_the_same_request_is_added_once(store: JobStore) -> None:
    draft = NewJob(file_name="a", model="base")

    def send(fingerprint: str) -> tuple[list[Job], bool]:
        return store.add("me", [draft], [(new_id(), 1)], idempotency_key="k", fingerprint=fingerprint)

    (first,), new = send("f")
    (second,), again = send("f")
    assert (first.id, new, again) == (second.id, True, False)
    with pytest.raises(IdempotencyKeyReused):
        send("g")


def test_a_newer_database_is_left_alone(database: Database) -> None:
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


def test_a_transaction_that_fails_leaves_nothing(store: JobStore) -> None:
    draft = NewJob(file_name="a", model="base")
    with pytest.raises(IntegrityError):
        store.add("", [draft, draft], [("same", 1), ("same", 1)])
    assert store.page(None) == ([], False)


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(io.BytesIO(b"damaged " * 1000).getvalue())
    with pytest.raises(JobsUnavailable, match="not a database"):
        Database(f"sqlite:///{tmp_path}/jobs.sqlite").migrate()


def test_errors_of_an_unreachable_database_hide_its_url() -> None:
    with pytest.raises(JobsUnavailable) as caught:
        Database("postgresql://me:secret@127.0.0.1:9/jobs").migrate()
    assert "127.0.0.1" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://me@host/jobs", "nothing"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="--database-url"):
        Database(url)


def test_two_servers_never_take_the_same_job(store: JobStore, database: Database) -> None:
    wanted = {job.id for job in add(store, 20)}
    taken: list[str] = []

    def take(name: str) -> None:
        leases = Leases(database, STORAGE, name)
        while (lease := leases.claim(everything)) is not None:
            taken.append(lease.job.id)

    threads = [Thread(target=take, args=(f"server-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 20 and set(taken) == wanted
