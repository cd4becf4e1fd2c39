from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.core.errors import BadAddress
from whisper_server.core.settings import Settings, SettingsError
from whisper_server.jobs.webhooks import DELAYS, Webhooks, job_event

SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="


class Receiver:
    """Receives webhooks and responds with these statuses, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.requests: Queue[tuple[dict[str, str], bytes]] = Queue()
        self._statuses = list(statuses)

    @contextmanager
    def serving(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver._statuses.pop(0) if receiver._statuses else 200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            yield f"http://localhost:{server.server_port}/hook?a=b"
            server.shutdown()
            thread.join()


def test_a_finished_job_is_reported_with_a_signature(
    client_with: Callable[..., TestClient], tmp_path: Path, audio: Path
) -> None:
    receiver = Receiver()
    client = client_with(data_dir=tmp_path, webhook_host=("localhost",), webhook_secret=SECRET)
    with receiver.serving() as url:
        files = {"file": (audio / "short.flac").read_bytes()}
        job = client.post("/v1/jobs", files=files, data={"callback_url": url}).json()
        assert job["callback"] == {"url": url, "state": "waiting", "attempts": 0}
        headers, body = receiver.requests.get(timeout=60)
    openai.OpenAI(api_key="none").webhooks.verify_signature(body.decode(), headers, secret=SECRET)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai.OpenAI(api_key="none").webhooks.verify_signature(body.decode() + " ", headers, secret=SECRET)
    event = json.loads(body)
    assert (event["object"], event["type"]) == ("event", "job.succeeded")
    assert event["data"]["id"] == job["id"] and event["data"]["progress"] == 1.0
    assert event["id"] == headers["webhook-id"]


def finish_job(client: TestClient, url: str) -> str:
    """Submit a job, cancel it and return its id."""
    id: str = client.post("/v1/jobs", files={"file": b"x"}, data={"callback_url": url}).json()["id"]
    client.post(f"/v1/jobs/{id}/cancel")
    return id


def test_a_failed_webhook_is_retried(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
    receiver = Receiver(500)
    client = client_with(data_dir=tmp_path, job_concurrency=0, webhook_host=("localhost",), webhook_secret=SECRET)
    with receiver.serving() as url:
        id = finish_job(client, url)
        first, body = receiver.requests.get(timeout=30)
        second, second_body = receiver.requests.get(timeout=60)
        assert (first["webhook-id"], body) == (
            second["webhook-id"],
            second_body.replace(b'"attempts": 2', b'"attempts": 1'),
        )
    assert json.loads(body)["type"] == "job.cancelled"
    assert client.get(f"/v1/jobs/{id}").json()["callback"]["attempts"] == 2


def test_a_receiver_that_does_not_respond_delays_no_other(
    client_with: Callable[..., TestClient], tmp_path: Path
) -> None:
    receiver = Receiver()
    client = client_with(data_dir=tmp_path, job_concurrency=0, webhook_host=("localhost",), webhook_secret=SECRET)
    with socket.create_server(("127.0.0.1", 0)) as deaf, receiver.serving() as url:
        for _ in range(20):
            finish_job(client, f"http://localhost:{deaf.getsockname()[1]}/")
        id = finish_job(client, url)
        headers, _ = receiver.requests.get(timeout=10)  # a response may take 15 s
    assert headers["webhook-id"] == f"evt_{id.removeprefix('job_')}"


def test_a_host_that_does_not_respond_is_left_alone_for_a_while() -> None:
    now = 100.0
    webhooks = Webhooks(["localhost"], SECRET, monotonic=lambda: now)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://localhost:{closed.getsockname()[1]}/"
    job: Any = type("Job", (), {"id": "job_1", "state": "failed", "finished_at": 1.0, "callback_url": url})
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        assert webhooks.pause(url) == 0
        assert not webhooks.deliver(job, job_event(job, {}))
        assert not webhooks.deliver(job, job_event(job, {}))  # which had begun before the first one failed
        assert webhooks.pause(url) == pause
        now += pause
    assert webhooks.pause(url) == 0
    assert webhooks.pause(url) > 30, "one call tries the host, and the others wait for its result"
    receiver = Receiver(500)
    with receiver.serving() as responding:
        job.callback_url = responding
        assert not webhooks.deliver(job, job_event(job, {}))
        assert webhooks.pause(responding) == 0, "it did respond"


def test_retries_continue_for_a_day_with_growing_delays() -> None:
    assert list(DELAYS) == sorted(DELAYS)
    assert 86_000 < sum(DELAYS) < 100_000


@pytest.mark.parametrize("host", ["hooks.example.org", "a.lan", "b.a.lan"])
def test_allowed_hosts_are_accepted(host: str) -> None:
    Webhooks(["hooks.example.org", "*.lan"], SECRET).check(f"https://{host}:8080/x")


@pytest.mark.parametrize("host", ["example.org", "lan", "hooks.example.org.evil.example", "127.0.0.1"])
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(BadAddress, match="--webhook-host"):
        Webhooks(["hooks.example.org", "*.lan"], SECRET).check(f"https://{host}/")


def test_a_host_that_is_no_longer_allowed_is_not_called() -> None:
    job: Any = type("Job", (), {"id": "job_1", "state": "failed", "finished_at": 1.0, "callback_url": "http://a.lan/"})
    assert not Webhooks(["b.lan"], SECRET).deliver(job, job_event(job, {}))


def test_signatures_depend_on_the_secret_and_timestamps_on_the_clock() -> None:
    signed = Webhooks([], SECRET, clock=lambda: 1_700_000_000.5).headers("evt_1", b"{}")
    assert signed["webhook-timestamp"] == "1700000000"
    other = Webhooks([], "another secret", clock=lambda: 1_700_000_000.5).headers("evt_1", b"{}")
    assert other["webhook-signature"] != signed["webhook-signature"]
    assert abs(int(Webhooks([], SECRET).headers("e", b"")["webhook-timestamp"]) - time.time()) < 10


def test_webhooks_need_a_secret() -> None:
    with pytest.raises(SettingsError, match="--webhook-secret"):
        create_app(Settings(webhook_host=("a.lan",)))
