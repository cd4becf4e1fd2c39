"""Clients of the servers that the harness disturbs, and what they observe."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx2

# The API keys of two users, of whom neither may see the other's jobs.
KEYS = ("first-key-of-the-harness", "second-key-of-the-harness")

_TIMEOUT = 60.0
# Errors that a client may get while something is broken. Any other status is a violation.
_ALLOWED = (401, 404, 408, 409, 429, 502, 503, 504, 507)


@dataclass
class Clip:
    """`text` is what an undisturbed server returns."""

    path: Path
    text: str = ""

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class SubmittedJob:
    key: str
    clip: Clip


@dataclass
class Observations:
    """What all clients together have seen; `violations` says what must never happen."""

    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    jobs: dict[str, SubmittedJob] = field(default_factory=dict)
    webhooks: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def violate(self, what: str) -> None:
        with self._lock:
            self.violations.append(what)

    def check_text(self, what: str, text: str, clip: Clip) -> None:
        if text.strip() != clip.text.strip():
            self.violate(f"{what} of {clip.path.name}: {text[:80]!r}")


Action: TypeAlias = "Callable[[Load, random.Random, str], str]"


@dataclass
class Load:
    """Sends random requests to random servers until it is stopped.

    `urls` returns the addresses of the servers, which may not respond; `max_jobs` limits the unfinished jobs.
    """

    urls: Callable[[], Sequence[str]]
    clips: Sequence[Clip]
    observations: Observations
    callback_url: str
    max_jobs: int = 12
    stopped: Event = field(default_factory=Event)

    @contextmanager
    def running(self, clients: int, seed: int) -> Iterator[None]:
        threads = [Thread(target=self._run, args=(random.Random(seed + i),)) for i in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def _run(self, generator: random.Random) -> None:
        actions, weights = zip(*ACTIONS.items(), strict=True)
        while not self.stopped.is_set():
            (action,) = generator.choices(actions, weights)
            url = generator.choice(self.urls())
            try:
                outcome = action(self, generator, url)
            except (httpx2.HTTPError, OSError) as exc:
                outcome = type(exc).__name__
                self.stopped.wait(0.2)
            self.observations.count(f"{action.__name__}: {outcome}")

    def post(self, url: str, path: str, key: str, clip: Clip, **fields: str) -> httpx2.Response:
        files = {"file": (clip.path.name, clip.content)}
        headers = {"authorization": f"Bearer {key}"}
        response = httpx2.post(url + path, files=files, data=fields, headers=headers, timeout=_TIMEOUT)
        if response.status_code not in (200, 202, *_ALLOWED):
            self.observations.violate(f"{path} responded with {response.status_code}: {response.text[:120]}")
        return response

    def submit(self, url: str, key: str, clip: Clip) -> str | None:
        """Submit a job and return its id, or None if the server does not accept it."""
        response = self.post(url, "/v1/jobs", key, clip, callback_url=self.callback_url)
        if response.status_code != 202:
            return None
        id: str = response.json()["id"]
        self.observations.jobs[id] = SubmittedJob(key, clip)
        return id

    def room_for_jobs(self, url: str) -> bool:
        return sum(_unfinished(url, key) for key in KEYS) < self.max_jobs


def _unfinished(url: str, key: str) -> int:
    response = httpx2.get(
        f"{url}/v1/jobs?state=queued&state=running&limit=100",
        headers={"authorization": f"Bearer {key}"},
        timeout=_TIMEOUT,
    )
    return len(response.json()["data"]) if response.status_code == 200 else 100


def recognise(load: Load, generator: random.Random, url: str) -> str:
    clip = generator.choice(load.clips)
    response = load.post(url, "/recognise", generator.choice(KEYS), clip)
    if response.status_code == 200:
        load.observations.check_text("/recognise", response.json()["transcription"]["text"], clip)
    return str(response.status_code)


def transcribe(load: Load, generator: random.Random, url: str) -> str:
    clip = generator.choice(load.clips)
    response = load.post(url, "/v1/audio/transcriptions", generator.choice(KEYS), clip)
    if response.status_code == 200:
        load.observations.check_text("/v1/audio/transcriptions", response.json()["text"], clip)
    return str(response.status_code)


def submit(load: Load, generator: random.Random, url: str) -> str:
    if not load.room_for_jobs(url):
        load.stopped.wait(0.5)
        return "enough"
    id = load.submit(url, generator.choice(KEYS), generator.choice(load.clips))
    return "accepted" if id is not None else "refused"


def look_at_foreign_job(load: Load, generator: random.Random, url: str) -> str:
    jobs = list(load.observations.jobs.items())
    if not jobs:
        load.stopped.wait(0.5)
        return "none"
    id, job = generator.choice(jobs)
    other = KEYS[1 - KEYS.index(job.key)]
    path = generator.choice(("", "/result", "/audio", "/events"))
    response = httpx2.get(f"{url}/v1/jobs/{id}{path}", headers={"authorization": f"Bearer {other}"}, timeout=_TIMEOUT)
    if response.status_code < 400:
        load.observations.violate(f"the job {id} of another key: {response.status_code}")
    return str(response.status_code)


def misbehave(load: Load, generator: random.Random, url: str) -> str:
    """Send a part of a request, and then reset the connection, close one half of it, or never read."""
    address = urlsplit(url)
    body = generator.choice(load.clips).content
    head = f"POST /recognise HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEYS[0]}\r\n"
    head += f"content-type: multipart/form-data; boundary=b\r\ncontent-length: {len(body) + 1000}\r\n\r\n"
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    how = generator.choice(("reset", "half-close", "never read"))
    with socket.create_connection((address.hostname, address.port), timeout=_TIMEOUT) as connection:
        connection.sendall(head.encode() + part + body[: generator.randrange(len(body))])
        if how == "half-close":
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
        elif how == "never read":
            load.stopped.wait(generator.uniform(0.5, 3.0))
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return how


ACTIONS: dict[Action, int] = {recognise: 4, transcribe: 4, submit: 3, look_at_foreign_job: 2, misbehave: 1}


@contextmanager
def webhook_receiver(observations: Observations) -> Iterator[str]:
    """Yield the URL of a receiver that counts the webhooks, and fails now and then."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            failing = random.random() < 0.1
            if not failing:
                observations.webhooks[self.headers["webhook-id"].replace("evt_", "job_")] += 1
            self.send_response(500 if failing else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def wait_for_event(url: str, key: str, id: str, kind: str, *, timeout: float = 30.0) -> None:
    """Return when the job has an event of that kind, or has ended, or after the timeout."""
    deadline = time.monotonic() + timeout
    events, headers = f"{url}/v1/jobs/{id}/events", {"authorization": f"Bearer {key}"}
    with suppress(httpx2.HTTPError), httpx2.stream("GET", events, headers=headers, timeout=timeout) as response:
        for line in response.iter_lines():
            if line == f"event: {kind}" or time.monotonic() > deadline:
                return


def check_jobs(url: str, observations: Observations, *, timeout: float) -> Counter[str]:
    """Wait until all jobs have ended, and check how; return how many ended how."""
    deadline = time.monotonic() + timeout
    states: Counter[str] = Counter()
    for id, submitted in observations.jobs.items():
        headers = {"authorization": f"Bearer {submitted.key}"}
        job = _wait_for_end(url, id, headers, deadline)
        states[job["state"]] += 1
        if job["state"] != "succeeded":
            observations.violate(f"the job {id} has {job['state']}: {job.get('error')}")
            continue
        result = httpx2.get(f"{url}/v1/jobs/{id}/result", headers=headers, timeout=_TIMEOUT).json()
        observations.check_text(f"the job {id}", result["text"], submitted.clip)
        events = httpx2.get(f"{url}/v1/jobs/{id}/events", headers=headers, timeout=_TIMEOUT).text
        if (ends := events.count("event: job.succeeded")) != 1:
            observations.violate(f"the job {id} ended {ends} times")
    return states


def check_webhooks(observations: Observations, *, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while missing := observations.jobs.keys() - observations.webhooks.keys():
        if time.monotonic() > deadline:
            observations.violate(f"{len(missing)} jobs were not reported by a webhook")
            return
        time.sleep(1)


def _wait_for_end(url: str, id: str, headers: Mapping[str, str], deadline: float) -> dict[str, Any]:
    while True:
        response = httpx2.get(f"{url}/v1/jobs/{id}", headers=headers, timeout=_TIMEOUT)
        job: dict[str, Any] = response.json() if response.status_code == 200 else {"state": str(response.status_code)}
        if job["state"] not in ("queued", "running") or time.monotonic() > deadline:
            return job
        time.sleep(0.5)
