"""Requests to a server whose card is small and shared (fake_card.py): its clients notice nothing."""

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
from fake_card import GB, LARGE, FakeDevice, manager_for
from faster_whisper import WhisperModel
from servers import live_server
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager


@pytest.fixture
def card(real: WhisperModel) -> FakeDevice:
    """Has room for one large-v3 in float16, and not for two."""
    return FakeDevice(real, LARGE, 6 * GB)


@pytest.fixture
def manager(card: FakeDevice, tmp_path: Path) -> Iterator[ModelManager]:
    manager = manager_for(card, tmp_path, fallback=True)
    yield manager
    manager.close()


@pytest.fixture
def client(manager: ModelManager) -> Iterator[TestClient]:
    settings = Settings(model="tiny.en", device="cpu", offline=True, allow_host=(HOST,))
    manager.expect("tiny.en")
    with TestClient(create_app(settings, manager)) as serving:
        yield serving


@pytest.fixture
def transcribed(client: TestClient, audio: Path) -> Callable[[], str]:
    """Send a clip, which must succeed, and return its text."""
    clip = (audio / "short.flac").read_bytes()

    def send() -> str:
        files, fields = {"file": ("short.flac", clip)}, {"encoder_window": "adaptive", "temperature": "0"}
        answer = client.post("/recognise", files=files, data=fields)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["transcription"]["text"]
        return text

    return send


def test_no_file_fails_beside_a_neighbour_that_takes_what_it_wants(
    client: TestClient, manager: ModelManager, card: FakeDevice, transcribed: Callable[[], str]
) -> None:
    expected = transcribed()
    chance = random.Random(1)

    def take() -> None:
        if chance.random() < 0.3:
            card.neighbour = chance.randrange(0, card.budget - card.costs.context)

    assert card.fallback is not None
    card.tell = card.fallback.tell = take
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: transcribed(), range(50)))
    assert texts == [expected] * 50
    (model,) = client.get("/v1/models").json()["data"]
    assert model["memory"]["steps"]["compute_type"] > 0


def test_twenty_reloads_without_room_for_two_fail_no_request(
    client: TestClient, manager: ModelManager, card: FakeDevice, transcribed: Callable[[], str]
) -> None:
    """Every fourth is of a name that is not there."""
    expected = transcribed()
    over = Event()

    def work() -> list[str]:
        texts = []
        while not over.is_set():
            texts.append(transcribed())
        return texts

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work) for _ in range(3)]
        try:
            for name in ["tiny.en", "nosuch", "tiny.en", "tiny.en"] * 5:
                before = manager.current
                answer = client.post("/reload", json={"model_name": name})
                assert answer.status_code == (200 if name == "tiny.en" else 404), answer.text
                assert (manager.current is before) == (name == "nosuch")
        finally:
            over.set()
        texts = [text for client in working for text in client.result()]
    assert set(texts) == {expected}
    assert card.peak <= card.budget


def test_a_load_can_be_seen_while_it_lasts(
    client: TestClient, card: FakeDevice, transcribed: Callable[[], str]
) -> None:
    seen = []
    card.tell = lambda: seen.append(client.get("/ready").json())
    transcribed()
    assert seen[0] == {"status": "ready", "loading": "tiny.en"}
    assert seen[-1] == {"status": "ready"}


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
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"kettle" in answer
