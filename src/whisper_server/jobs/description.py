"""A job as clients see it."""

from __future__ import annotations

from typing import Any

from whisper_server.jobs.job import Job


def described(job: Job, *, position: int | None = None, waiting_for_model: bool = False) -> dict[str, Any]:
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
        "progress": job.progress,
        "audio_seconds": job.audio_seconds,
        "audio_seconds_done": job.seconds_done,
        "speed": job.speed,
        "estimated_finish_at": job.estimated_finish_at,
        "position": position,
        "waiting_for_model": waiting_for_model,
        "restarts": job.restarts,
        "cached": job.cached,
        "language": job.language,
        "error": job.error,
        "callback": _callback(job),
    }


def _callback(job: Job) -> dict[str, Any] | None:
    if not job.callback_url:
        return None
    return {"url": job.callback_url, "state": job.callback_state, "attempts": job.callback_attempts}
