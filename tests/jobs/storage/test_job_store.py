from __future__ import annotations

import pytest
from jobs.storage.stored_jobs import STORAGE, add, claim, segment, segment_json
from sqlalchemy import select

from whisper_server.core.errors import IdempotencyKeyReused, JobNotFound, JobState, LeaseLost, Overloaded, TooManyJobs
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job, Limits, NewJob, new_id
from whisper_server.jobs.storage import schema
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases


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


@pytest.mark.parametrize("id", ["job_nosuch", "a\0", "\ud800", "", "x" * 10_000])
def test_an_unknown_id_is_not_found(store: JobStore, id: str) -> None:
    for call in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFound):
            call(id)
    with pytest.raises(JobNotFound):
        store.page(None, after=id or "job_")


def test_a_page_can_be_limited_to_a_model(store: JobStore) -> None:
    jobs = {model: add(store, model=model)[0].id for model in ("base", "large-v3", "tiny")}
    for model, id in jobs.items():
        assert [job.id for job in store.page(None, model=model)[0]] == [id]


def test_a_cached_result_replaces_that_of_its_key_only(store: JobStore, leases: Leases) -> None:
    for key, text in (("a", " 1"), ("b", " 2"), ("a", " 3")):
        add(store)
        leases.succeed(claim(leases), Transcript([segment(text=text)], "en", 1.0), [], cache_key=key)
    cached = [leases.cached(key) for key in "ab"]
    assert [transcript and transcript.text for transcript in cached] == [" 3", " 2"]
    store.expire()
    assert leases.cached("a") is not None, "it has not expired yet"


def test_a_result_adds_the_events_of_its_segments(store: JobStore, leases: Leases) -> None:
    (job,) = add(store)
    leases.succeed(claim(leases), Transcript([segment()], "en", 1.0), [segment_json(0), segment_json(1)])
    segments = [event.facts["segment"] for event in store.events(job.id) if event.kind == "job.segment"]
    assert [facts["text"] for facts in segments] == [" 0", " 1"]
    assert store.get(job.id).segments == 2
