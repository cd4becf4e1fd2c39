from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.models.manager import ModelManager
from whisper_server.jobs.job import Job, Limits, NewJob
from whisper_server.jobs.service import Jobs
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.local_storage import LocalStorage
from whisper_server.jobs.url_fetcher import Fetcher
from whisper_server.jobs.webhooks import Webhooks


@pytest.fixture
def jobs(models: ModelManager, tmp_path: Path) -> Jobs:
    """Jobs of which one runs at a time; any address may be fetched."""
    admission = Admission(max_requests=8, max_audio_seconds=3600)
    return Jobs(
        Transcriber(models, AudioDecoder(max_seconds=600), admission),
        LocalStorage(tmp_path),
        Database(f"sqlite:///{tmp_path}/jobs.sqlite"),
        fetcher=Fetcher(max_bytes=10**9, timeout=60, allowed=lambda address: True),
        webhooks=Webhooks([], ""),
        limits=Limits(concurrency=1),
    )


async def finished(jobs: Jobs, job: Job) -> Job:
    async for events in jobs.follow(job, after=0):
        if events[-1].kind in ("job.succeeded", "job.failed"):
            break
    return await jobs.query(JobStore.get, job.id)


def test_downloads_take_no_place_of_jobs_with_audio(jobs: Jobs, audio: Path) -> None:
    async def run(address: str) -> tuple[Job, list[Job]]:
        async with jobs.serving():
            urls = [
                NewJob(file_name="a.mp3", model="tiny.en", url=f"http://{address}/{number}") for number in range(20)
            ]
            waiting, _ = await jobs.submit("", urls, [None] * len(urls))
            with (audio / "short.flac").open("rb") as file:
                submitted, _ = await jobs.submit("", [NewJob(file_name="a.flac", model="tiny.en")], [file])
            with anyio.fail_after(60):
                done = await finished(jobs, submitted[0])
            return done, [await jobs.query(JobStore.get, job.id) for job in waiting]

    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        done, waiting = anyio.run(run, f"127.0.0.1:{deaf.getsockname()[1]}")
    assert done.state == "succeeded"
    assert 0 < sum(job.state == "running" for job in waiting) <= 16, "so many files are downloaded at a time"
