"""Two replicas with real weights on a temporary Ray cluster, tested over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import httpx2
import pytest
from conftest import TESTS
from faster_whisper import decode_audio
from servers import LiveServer, launched
from websockets.asyncio.client import connect

from benchmarks.audio_files import to_pcm16, wav_bytes

pytestmark = [pytest.mark.ray, pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")]

REPLICAS = 2
CONTRACT = ("test_openai_sdk.py", "api/routes/test_recognise.py", "api/routes/test_transcriptions.py")
# Each kind of request and of error once, as all of them take minutes.
SHORT = (
    "full_detail or no_file_is or bad_value or files_of_other or test_json or test_stream or errors_are_raised or twice"
)
# A retry joins its first attempt only if it reaches the same replica.
SAME_REPLICA = "a_failure_after_the_first_space"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = ["model=tiny.en", "device=cpu", "offline=true", "auth=false", "autotune=false", "workers=1"]
    settings.append(f"data_dir={tmp_path_factory.mktemp('data')}")
    command = [sys.executable, "-m", "benchmarks.cluster.ray_cluster", "--replicas", str(REPLICAS), *settings]
    paths = os.pathsep.join(path for path in sys.path if path)
    with launched(command, {**os.environ, "PYTHONPATH": paths}, banner="serving on http") as running:
        yield running
        assert running.stop() == 0


def run_contract(url: str, *options: str) -> None:
    files = [str(TESTS / name) for name in CONTRACT]
    command = [sys.executable, "-m", "pytest", "-q", "--url", url, *options, *files]
    process = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-5000:]


def test_the_contract(server: LiveServer) -> None:
    run_contract(server.url, "-k", SHORT)


@pytest.mark.slow
def test_the_whole_contract(server: LiveServer) -> None:
    run_contract(server.url, "-k", f"not on_demand and not {SAME_REPLICA}")


def test_any_replica_responds_for_all(server: LiveServer) -> None:
    ready = httpx2.get(f"{server.url}/ready").json()
    assert (ready["status"], len(ready["replicas"])) == ("ready", REPLICAS)
    model, _ = httpx2.get(f"{server.url}/v1/models").json()["data"]
    assert (model["id"], model["replicas"]) == ("tiny.en", REPLICAS)
    assert httpx2.get(f"{server.url}/metrics").text.count("whisper_ready{") == REPLICAS


def test_a_live_session(server: LiveServer, audio: Path) -> None:
    async def stream() -> list[dict[str, object]]:
        async with connect(server.url.replace("http", "ws") + "/v1/stream?encoding=auto") as socket:
            await socket.send(wav_bytes(to_pcm16(decode_audio(str(audio / "short.flac")))))
            await socket.send(json.dumps({"type": "end"}))
            return [json.loads(message) async for message in socket]

    messages = asyncio.run(asyncio.wait_for(stream(), 60))
    assert "on the stove" in " ".join(str(message.get("text", "")) for message in messages)


def test_all_replicas_share_jobs(server: LiveServer, audio: Path) -> None:
    files = {"file": ("a.flac", (audio / "short.flac").read_bytes())}
    job = httpx2.post(f"{server.url}/v1/jobs", files=files).json()["id"]
    for _ in range(4 * REPLICAS):
        assert httpx2.get(f"{server.url}/v1/jobs/{job}").json()["id"] == job
    events = httpx2.get(f"{server.url}/v1/jobs/{job}/events", timeout=60).text
    assert events.count("event: job.succeeded") == 1
    assert "kettle" in httpx2.get(f"{server.url}/v1/jobs/{job}/result?response_format=text").text


def test_a_reload_under_load_fails_no_request(server: LiveServer, audio: Path) -> None:
    clip = (audio / "short.flac").read_bytes()
    stopped = Event()

    def send() -> list[int]:
        statuses = []
        while not stopped.is_set():
            statuses.append(
                httpx2.post(f"{server.url}/recognise", files={"file": ("a", clip)}, timeout=120).status_code
            )
        return statuses

    def reload(model: str) -> httpx2.Response:
        return httpx2.post(f"{server.url}/reload", json={"model_name": model}, timeout=300)

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(send) for _ in range(2)]
        try:
            assert reload("base").json() == {"message": "Model base loaded"}
            assert {r["model"] for r in httpx2.get(f"{server.url}/ready").json()["replicas"]} == {"base"}
            assert reload("nosuch").status_code == 404
            assert reload("tiny.en").json() == {"message": "Model tiny.en loaded"}
        finally:
            stopped.set()
        statuses = {status for client in clients for status in client.result()}
    assert statuses == {200}
