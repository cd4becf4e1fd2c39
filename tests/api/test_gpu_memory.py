"""Requests to a server whose GPU is small and shared with another program (fake_gpu.py)."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import pytest
from conftest import HOST
from fake_gpu import GB, LARGE, FakeDevice, manager_for
from faster_whisper import WhisperModel
from servers import live_server
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager


@pytest.fixture
def gpu(real: WhisperModel) -> FakeDevice:
    """Return a GPU with memory for one large-v2 in float16, but not for two."""
    return FakeDevice(real, LARGE, 6 * GB)


@pytest.fixture
def manager(gpu: FakeDevice, tmp_path: Path) -> Iterator[ModelManager]:
    manager = manager_for(gpu, tmp_path, fallback=True)
    yield manager
    manager.close()


@pytest.fixture
def client(manager: ModelManager) -> Iterator[TestClient]:
    settings = Settings(model="tiny.en", device="cpu", offline=True, allow_host=(HOST,))
    manager.set_startup_model("tiny.en")
    with TestClient(create_app(settings, manager)) as serving:
        yield serving


@pytest.fixture
def transcribe_clip(client: TestClient, audio: Path) -> Callable[[], str]:
    """Return a function that sends a clip, which must succeed, and returns its text."""
    clip = (audio / "short.flac").read_bytes()

    def send() -> str:
        files, fields = {"file": ("short.flac", clip)}, {"encoder_window": "adaptive", "temperature": "0"}
        response = client.post("/recognise", files=files, data=fields)
        assert response.status_code == 200, response.text
        text: str = response.json()["transcription"]["text"]
        return text

    return send


@pytest.mark.full
def test_no_request_fails_while_another_program_uses_the_memory(
    client: TestClient, manager: ModelManager, gpu: FakeDevice, transcribe_clip: Callable[[], str]
) -> None:
    expected = transcribe_clip()
    rng = random.Random(1)

    def change_neighbour() -> None:
        if rng.random() < 0.3:
            gpu.neighbour = rng.randrange(0, gpu.budget - gpu.costs.context)

    assert gpu.fallback is not None
    gpu.before_call = gpu.fallback.before_call = change_neighbour
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: transcribe_clip(), range(50)))
    assert texts == [expected] * 50
    model, _ = client.get("/v1/models").json()["data"]
    assert model["memory"]["steps"]["compute_type"] > 0


@pytest.mark.full
def test_no_request_fails_during_twenty_reloads_without_memory_for_two_models(
    client: TestClient, manager: ModelManager, gpu: FakeDevice, transcribe_clip: Callable[[], str]
) -> None:
    """Every fourth names a missing model."""
    expected = transcribe_clip()
    stop = Event()

    def transcribe_repeatedly() -> list[str]:
        texts = []
        while not stop.is_set():
            texts.append(transcribe_clip())
        return texts

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(transcribe_repeatedly) for _ in range(3)]
        try:
            for name in ["tiny.en", "nosuch", "tiny.en", "tiny.en"] * 5:
                before = manager.current
                response = client.post("/reload", json={"model_name": name})
                assert response.status_code == (200 if name == "tiny.en" else 404), response.text
                assert (manager.current is before) == (name == "nosuch")
        finally:
            stop.set()
        texts = [text for client in clients for text in client.result()]
    assert set(texts) == {expected}
    assert gpu.peak <= gpu.budget


def test_ready_names_the_model_being_loaded(
    client: TestClient, gpu: FakeDevice, transcribe_clip: Callable[[], str]
) -> None:
    responses = []
    gpu.before_call = lambda: responses.append(client.get("/ready").json())
    transcribe_clip()
    assert responses[0] == {"status": "ready", "loading": "tiny.en"}
    assert responses[-1] == {"status": "ready"}


def test_the_model_is_loaded_while_the_upload_arrives(audio: Path) -> None:
    clip = (audio / "short.flac").read_bytes()
    body = b"--x\r\nContent-Disposition: form-data; name=file; filename=short.flac\r\n\r\n" + clip + b"\r\n--x--\r\n"
    head = f"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    with live_server("--lazy-load", "--no-autotune") as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as client:
            client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body[:1000])
            server.wait_for("loaded tiny.en")
            client.sendall(body[1000:])
            response = b"".join(iter(lambda: client.recv(65536), b""))
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"stove" in response
