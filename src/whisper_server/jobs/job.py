"""A job: a file to transcribe, its options and its progress; and the limits of jobs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import Row

State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
FINAL: tuple[State, ...] = ("succeeded", "failed", "cancelled")

CallbackState: TypeAlias = Literal["waiting", "pending", "delivered", "failed"]


def new_id() -> str:
    return "job_" + secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`concurrency` jobs run at a time on this server. For the others, 0 is no limit.

    A lease that is not renewed for `lease_seconds` ends.
    """

    concurrency: int = 2
    max_jobs: int = 0
    max_jobs_of_key: int = 0
    seconds_to_live: float = 0.0
    result_cache: bool = False
    lease_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be added.

    `decoding` has options of `WhisperModel.transcribe()` and `handling` those of RunOptions; `fields` are the form
    fields as the client sent them.
    """

    file_name: str
    model: str
    task: str = "transcribe"
    response_format: str = "json"
    decoding: Mapping[str, Any] = field(default_factory=dict)
    handling: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[tuple[str, str], ...] = ()
    url: str = ""
    callback_url: str = ""
    keep_audio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of the table of jobs. `owner` is the name of an API key, or empty; times are seconds since 1970."""

    id: str
    number: int
    owner: str
    state: State
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    file_name: str
    file_bytes: int | None
    url: str
    keep_audio: bool
    model: str
    task: str
    response_format: str
    fields: tuple[tuple[str, str], ...]
    decoding: dict[str, Any]
    handling: dict[str, Any]
    audio_seconds: float | None
    seconds_done: float
    segments: int
    speed: float | None
    progress_at: float | None
    language: str | None
    restarts: int
    attempts: int
    cached: bool
    error: dict[str, Any] | None
    callback_url: str
    callback_state: CallbackState | None
    callback_attempts: int
    last_event: int

    @classmethod
    def of(cls, row: Row[Any]) -> Job:
        """Return the job of a row, which may have more columns."""
        values = {name: getattr(row, name) for name in cls.__slots__}
        for name in ("decoding", "handling", "error"):
            values[name] = json.loads(values[name]) if values[name] else None
        values["fields"] = tuple((name, value) for name, value in json.loads(values["fields"]))
        return cls(**values)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def progress(self) -> float:
        if self.state == "succeeded":
            return 1.0
        return min(1.0, self.seconds_done / self.audio_seconds) if self.audio_seconds else 0.0

    @property
    def estimated_finish_at(self) -> float | None:
        if self.state != "running" or not self.speed or self.progress_at is None or self.audio_seconds is None:
            return None
        return self.progress_at + (self.audio_seconds - self.seconds_done) / self.speed


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of a job: numbers are 1, 2, 3 …; `at` is in seconds since 1970."""

    job_id: str
    number: int
    kind: str
    at: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job. After it is lost, nothing can be written with its token."""

    job: Job
    token: str


def job_json(
    job: Job, *, position: int | None = None, waiting_for_model: bool = False, waiting_for_storage: bool = False
) -> dict[str, Any]:
    """Return a job as clients see it; `position` is the number of queued jobs before it."""
    callback = {"url": job.callback_url, "state": job.callback_state, "attempts": job.callback_attempts}
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "expires_at": job.expires_at,
        "file": {"name": job.file_name, "bytes": job.file_bytes, "url": job.url or None, "kept": job.keep_audio},
        "model": job.model,
        "task": job.task,
        "response_format": job.response_format,
        **progress_json(job),
        "position": position,
        "waiting_for_model": waiting_for_model,
        "waiting_for_storage": waiting_for_storage,
        "restarts": job.restarts,
        "cached": job.cached,
        "language": job.language,
        "error": job.error,
        "callback": callback if job.callback_url else None,
    }


def progress_json(job: Job) -> dict[str, float | None]:
    """Return the facts of `job.progress` events, which a job has as well."""
    return {
        "progress": job.progress,
        "audio_seconds": job.audio_seconds,
        "audio_seconds_done": job.seconds_done,
        "speed": job.speed,
        "estimated_finish_at": job.estimated_finish_at,
    }
