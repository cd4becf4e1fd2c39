"""Short forms of what the tests of the job store and of leases do."""

from __future__ import annotations

from typing import Any

from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.jobs.job import Job, Lease, Limits, NewJob, new_id
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases

STORAGE = "here"
NO_LIMITS = Limits()
EXPIRING = Limits(seconds_to_live=1000)


def every_model(model: str) -> bool:
    return True


def none_ended(server: str) -> bool:
    return False


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
