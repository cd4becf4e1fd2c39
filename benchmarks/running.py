"""A server in a process of its own, for the benchmarks that look at it, and what it says of its work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import httpx2


@contextmanager
def running_server(model: str, *flags: str) -> Iterator[tuple[str, int]]:
    """Yield its address and its process id."""
    command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", "--model", model, *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(line for line in process.stderr if " serving " in line).split()[-1]
            Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the server
            yield url, process.pid
        finally:
            process.terminate()


def calls(url: str) -> float:
    """How often the model was called until now."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("whisper_batch_size_sum"))


@contextmanager
def two_jobs(url: str, file: bytes) -> Iterator[None]:
    """Give the server two jobs of the file, wait until they run, and cancel them in the end."""
    with httpx2.Client(base_url=url, timeout=600) as client:
        ids = [client.post("/v1/jobs", files={"file": ("a.wav", file)}).json()["id"] for _ in range(2)]
        for id in ids:
            with client.stream("GET", f"/v1/jobs/{id}/events") as events:
                next(line for line in events.iter_lines() if line == "event: job.progress")
        yield
        states = [client.get(f"/v1/jobs/{id}").json() for id in ids]
        print(f"the jobs: {[(job['state'], round(job['progress'], 2), job['speed']) for job in states]}")
        for id in ids:
            client.delete(f"/v1/jobs/{id}")
