"""A client of /v1/jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2


def submit_job(url: str, file: Path, options: Mapping[str, str] | None = None) -> str:
    """Return the id of the new job."""
    files = {"file": (file.name, file.read_bytes())}
    response = httpx2.post(f"{url}/v1/jobs", files=files, data=dict(options or {}), timeout=60)
    assert response.status_code == 202, response.text
    id: str = response.json()["id"]
    return id


def get_job(url: str, id: str) -> dict[str, Any]:
    job: dict[str, Any] = httpx2.get(f"{url}/v1/jobs/{id}", timeout=60).json()
    return job


def list_jobs(url: str) -> list[dict[str, Any]]:
    """All jobs, of which there may be 100."""
    page = httpx2.get(f"{url}/v1/jobs?limit=100", timeout=60).json()
    assert not page["has_more"]
    jobs: list[dict[str, Any]] = page["data"]
    return jobs


def wait_for_job(url: str, id: str, state: str, *, progress: float = 0.0) -> dict[str, Any]:
    """Return the job once it is in that state and has made that much progress, from 0 to 1."""
    while True:
        job = get_job(url, id)
        if job["state"] == state and job["progress"] >= progress:
            return job
        assert job["state"] in ("queued", "running"), job
        time.sleep(0.5)


def job_events(url: str, id: str) -> list[dict[str, Any]]:
    """All events of the job until it ends."""
    lines = httpx2.get(f"{url}/v1/jobs/{id}/events", timeout=3600).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def job_result(url: str, id: str) -> dict[str, Any]:
    result: dict[str, Any] = httpx2.get(f"{url}/v1/jobs/{id}/result?response_format=verbose_json", timeout=60).json()
    return result


@contextmanager
def two_running_jobs(url: str, content: bytes) -> Iterator[None]:
    """Submit the file as two jobs, wait until both run, and cancel them at the end."""
    with httpx2.Client(base_url=url, timeout=600) as client:
        ids = [client.post("/v1/jobs", files={"file": ("a.wav", content)}).json()["id"] for _ in range(2)]
        for id in ids:
            with client.stream("GET", f"/v1/jobs/{id}/events") as events:
                next(line for line in events.iter_lines() if line == "event: job.progress")
        yield
        states = [client.get(f"/v1/jobs/{id}").json() for id in ids]
        print(f"the jobs: {[(job['state'], round(job['progress'], 2), job['speed']) for job in states]}")
        for id in ids:
            client.delete(f"/v1/jobs/{id}")
