from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from jobs.storage.stored_jobs import (
    NO_LIMITS,
    STORAGE,
    add,
    claim,
    event_kinds,
    every_model,
    none_ended,
    segment,
    segment_json,
)

from whisper_server.core.errors import LeaseLost
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Limits, NewJob, new_id
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import LONGEST_DELAY, Leases


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


def test_jobs_to_be_downloaded_are_claimed_separately(store: JobStore, leases: Leases) -> None:
    """After the download, a job is one like any other."""
    (ready,) = add(store)
    new = NewJob(file_name="b.mp3", model="base", url="http://example.org/b.mp3")
    ((remote,), _) = store.add("", [new], [(new_id(), None)])
    assert leases.has_work(every_model) and leases.has_work(every_model, download=True)
    assert claim(leases).job.id == ready.id
    assert leases.claim(every_model) is None
    lease = leases.claim(every_model, download=True)
    assert lease is not None and lease.job.id == remote.id
    leases.record_audio(lease, file_bytes=10)
    leases.release(lease)
    assert not leases.has_work(every_model, download=True)
    assert claim(leases).job.id == remote.id


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
    long.renew([id])
    assert long.recover(none_ended, max_stalled_restarts=3) == 0
    short.renew([id])
    assert long.recover(none_ended, max_stalled_restarts=3) == 1
    assert store.get(id).state == "queued"


def test_only_leases_of_jobs_that_run_are_renewed(database: Database, store: JobStore) -> None:
    """A lease that could not be released, as the disk was full, expires though its server goes on."""
    add(store)
    claim(Leases(database, STORAGE, "me", Limits(lease_seconds=-1.0)))
    leases = Leases(database, STORAGE, "me", Limits(lease_seconds=60))
    leases.renew([])
    assert leases.recover(none_ended, max_stalled_restarts=3) == 1


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
    leases.retry(claim(leases), delay=LONGEST_DELAY)
    job = store.get(id)
    assert (job.state, job.attempts, job.restarts) == ("queued", 1, 0)
    assert leases.claim(every_model) is None


def test_a_clock_that_is_set_back_delays_no_job(tmp_path: Path) -> None:
    now = 1_000_000.0
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite", clock=lambda: now)
    database.migrate()
    store, leases = JobStore(database, STORAGE, NO_LIMITS), Leases(database, STORAGE, "me", NO_LIMITS)
    new, released, retried, reported = add(store, 4, callback_url="http://localhost/")
    store.cancel(reported.id, None)
    held = [claim(leases) for _ in range(3)]
    leases.release(held[1])
    leases.retry(held[2], delay=LONGEST_DELAY)
    leases.release(held[0])
    now -= 3600
    assert {claim(leases).job.id for _ in range(3)} == {new.id, released.id, retried.id}
    webhook = store.claim_webhook(seconds=60)
    assert webhook is not None and webhook.id == reported.id
    database.close()
