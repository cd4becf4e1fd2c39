"""Jobs on several servers, one after the other or at once, in one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from benchmarks.jobs.postgresql import programs, running_postgresql
from whisper_server.app import create_app
from whisper_server.core.errors import StorageFull
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager
from whisper_server.jobs.job import Limits, NewJob, new_id
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.local_storage import LocalStorage

Serve: TypeAlias = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def serve(models: ModelManager, tmp_path: Path) -> Serve:
    """Start a server for the duration of a block; all servers of a test share a data directory."""

    @contextmanager
    def serving(**changed: Any) -> Iterator[TestClient]:
        common: dict[str, Any] = {"model": "tiny.en", "device": "cpu", "offline": True, "allow_host": ("testserver",)}
        settings = Settings(**{**common, "data_dir": tmp_path, **changed})
        with TestClient(create_app(settings, models)) as client:
            yield client

    return serving


def submit(client: TestClient, file: Path, **data: str) -> str:
    id: str = client.post("/v1/jobs", files={"file": file.read_bytes()}, data=data).json()["id"]
    return id


def events(client: TestClient, id: str) -> list[dict[str, Any]]:
    lines = client.get(f"/v1/jobs/{id}/events").text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def wait_for(client: TestClient, id: str, kind: str) -> None:
    with client.stream("GET", f"/v1/jobs/{id}/events") as response:
        next(line for line in response.iter_lines() if line == f"event: {kind}")


def test_a_queued_job_runs_on_the_next_server(serve: Serve, audio: Path) -> None:
    with serve(job_concurrency=0) as client:
        id = submit(client, audio / "short.flac")
    with serve() as client:
        assert events(client, id)[-1]["type"] == "job.succeeded"
        assert "stove" in client.get(f"/v1/jobs/{id}/result").json()["text"]
    with serve(job_concurrency=0) as client:
        assert client.get(f"/v1/jobs/{id}").json()["restarts"] == 0


def test_a_server_that_stops_requeues_its_job_with_its_progress(serve: Serve, audio: Path) -> None:
    with serve() as client:
        id = submit(client, audio / "long.flac", word_timestamps="true")
        wait_for(client, id, "job.progress")
    with serve(job_concurrency=0) as client:
        job = client.get(f"/v1/jobs/{id}").json()
        assert (job["state"], job["restarts"], job["error"]) == ("queued", 1, None)
        assert 0 < job["progress"] < 1
    with serve() as client:
        all_events = events(client, id)
        assert [event["reason"] for event in all_events if event["type"] == "job.requeued"] == ["server_stopped"]
        segments = [event["segment"]["id"] for event in all_events if event["type"] == "job.segment"]
        assert segments == list(range(len(segments)))
        progress = [event["progress"] for event in all_events if "progress" in event]
        assert progress == sorted(progress) and progress[-1] == 1.0
        uninterrupted = submit(client, audio / "long.flac", word_timestamps="true")
        events(client, uninterrupted)
        first, second = (
            client.get(f"/v1/jobs/{job}/result?response_format=verbose_json").json() for job in (id, uninterrupted)
        )
        assert first == second


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
    elif programs() is None:
        pytest.skip("needs PostgreSQL")
    else:
        with running_postgresql() as postgresql:
            yield postgresql.url


@pytest.mark.full
@pytest.mark.usefixtures("always_computing")
def test_any_server_lists_follows_and_cancels_any_job(serve: Serve, audio: Path, database_url: str) -> None:
    with (
        serve(database_url=database_url) as worker,
        serve(database_url=database_url, job_concurrency=0) as other,
    ):
        id = submit(other, audio / "short.flac")
        assert events(other, id)[-1]["type"] == "job.succeeded"
        assert "stove" in worker.get(f"/v1/jobs/{id}/result").json()["text"]
        long = submit(worker, audio / "long.flac")
        wait_for(other, long, "job.progress")
        assert [job["id"] for job in other.get("/v1/jobs").json()["data"]] == [long, id]
        assert other.post(f"/v1/jobs/{long}/cancel").json()["state"] == "cancelled"
        assert events(worker, long)[-1]["type"] == "job.cancelled"


def test_a_job_waits_for_its_model(serve: Serve, audio: Path, tmp_path: Path) -> None:
    data = LocalStorage(tmp_path)
    data.open()
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    database.migrate()
    id = new_id()
    JobStore(database, data.name, Limits()).add("", [NewJob(file_name="a", model="large-v3")], [(id, 1)])
    database.close()
    with serve() as client:
        other = submit(client, audio / "short.flac")
        assert events(client, other)[-1]["type"] == "job.succeeded"
        job = client.get(f"/v1/jobs/{id}").json()
        assert (job["state"], job["waiting_for_model"], job["position"]) == ("queued", True, 0)


def test_jobs_become_available_when_the_data_directory_is_repaired(serve: Serve, tmp_path: Path, audio: Path) -> None:
    directory = tmp_path / "data"
    directory.write_text("in the way")
    with serve(data_dir=directory) as client:
        assert client.get("/v1/jobs").status_code == 503
        directory.unlink()
        id = submit(client, audio / "short.flac")
        assert client.get(f"/v1/jobs/{id}").status_code == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=1000", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount file systems")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Write a file that takes all space, and return it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def poll(client: TestClient, url: str, expected: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Request the URL until its JSON is as expected."""
    deadline = time.monotonic() + 60
    body: dict[str, Any] = client.get(url).json()
    while not expected(body):
        assert time.monotonic() < deadline, body
        body = client.get(url).json()
    return body


@pytest.mark.full
@pytest.mark.usefixtures("always_computing")
def test_a_job_waits_while_the_disk_is_full(serve: Serve, small_disk: Path, audio: Path) -> None:
    """Everything else is served, and the status says what is wrong."""
    with serve(data_dir=small_disk) as client:
        expected = client.post("/recognise", files={"file": (audio / "long.flac").read_bytes()}).json()
        id = submit(client, audio / "long.flac")
        wait_for(client, id, "job.progress")
        filler = fill(small_disk)
        assert "no space" in poll(client, "/ready", lambda body: "jobs" in body)["jobs"]
        assert client.get("/ready").status_code == 200
        job = client.get(f"/v1/jobs/{id}").json()
        assert job["waiting_for_storage"] and job["state"] in ("queued", "running")
        refused = client.post("/v1/jobs", files={"file": (audio / "long.flac").read_bytes()})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
        assert client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()}).status_code == 200
        filler.unlink()
        assert events(client, id)[-1]["type"] == "job.succeeded"
        assert not client.get(f"/v1/jobs/{id}").json()["waiting_for_storage"]
        result = client.get(f"/v1/jobs/{id}/result").json()
        assert result["text"].strip() == expected["transcription"]["text"].strip()
        assert client.get("/ready").json() == {"status": "ready"}


def test_a_full_database_is_reported(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")

    def limit(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    event.listen(database._engine, "connect", limit)
    database.migrate()
    store = JobStore(database, "here", Limits())
    new_job = NewJob(file_name="x" * 5000, model="base")
    with pytest.raises(StorageFull):
        for _ in range(100):
            store.add("", [new_job], [(new_id(), 1)])
    kept = len(store.page(None, limit=100)[0])
    assert 0 < kept < 100 and store.counts()["queued"] == kept
    database.close()


def test_private_addresses_are_not_fetched(serve: Serve) -> None:
    with serve(allow_url_fetch=True) as client:
        id = client.post("/v1/jobs", data={"url": "http://127.0.0.1:9/talk.mp3"}).json()["id"]
        assert events(client, id)[-1]["type"] == "job.failed"
        job = client.get(f"/v1/jobs/{id}").json()
        assert job["error"]["code"] == "invalid_url" and job["file"]["name"] == "talk.mp3"
        refused = client.post("/v1/jobs", data={"url": "file:///etc/passwd"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_url")


@pytest.mark.usefixtures("always_computing")
def test_only_the_timeout_of_the_job_itself_applies(serve: Serve, audio: Path) -> None:
    with serve(request_timeout=0.001) as client:
        without_timeout = submit(client, audio / "short.flac")
        with_timeout = submit(client, audio / "long.flac", timeout="0.1")
        assert events(client, without_timeout)[-1]["type"] == "job.succeeded"
        assert events(client, with_timeout)[-1]["error"]["code"] == "timeout"


def test_event_streams_end_when_the_server_stops(serve: Serve, audio: Path) -> None:
    with serve(job_concurrency=0) as client:
        id = submit(client, audio / "short.flac")
        with client.stream("GET", f"/v1/jobs/{id}/events") as response:
            lines = response.iter_lines()
            next(line for line in lines if line == "event: job.queued")
            client.app_state["jobs"].end_events()
            assert [line for line in lines if line.startswith("event")] == []
