"""`POST /v1/listen` with the real tiny.en."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from uuid import UUID

import av
import numpy as np
import pytest
from faster_whisper import decode_audio
from starlette.testclient import TestClient

SECRET = "a-secret-of-the-tests"


def alternative(response: Any) -> Any:
    return response.json()["results"]["channels"][0]["alternatives"][0]


def listen(client: TestClient, clip: bytes, query: str = "", content_type: str = "audio/flac") -> Any:
    headers = {"content-type": content_type} if content_type else {}
    return client.post(f"/v1/listen?{query}", content=clip, headers=headers)


@pytest.fixture(scope="module")
def short(audio: Path) -> bytes:
    return (audio / "short.flac").read_bytes()


@pytest.mark.parametrize("content_type", ["audio/flac", "application/octet-stream", "", "AUDIO/*; charset=binary"])
def test_the_body_is_transcribed(client: TestClient, short: bytes, content_type: str) -> None:
    response = listen(client, short, "model=nova-3&smart_format=true&punctuate=true&language=en-US", content_type)
    assert response.status_code == 200, response.text
    assert alternative(response)["transcript"].startswith("The kettle is on the stove")
    metadata = response.json()["metadata"]
    assert metadata["sha256"] == sha256(short).hexdigest()
    assert metadata["duration"] == pytest.approx(3.146, abs=0.01)
    assert metadata["request_id"] == response.headers["dg-request-id"]
    assert "warnings" not in metadata


def test_channels_are_transcribed_on_their_own(client: TestClient, audio: Path) -> None:
    left = decode_audio(str(audio / "short.flac"))
    stereo = stereo_wav(left, np.zeros_like(left))
    response = listen(client, stereo, "multichannel=true&utterances=true", "audio/wav").json()
    first, second = (channel["alternatives"][0]["transcript"] for channel in response["results"]["channels"])
    assert "kettle" in first and "kettle" not in second
    assert response["metadata"]["channels"] == 2
    spoken = [utterance for utterance in response["results"]["utterances"] if "kettle" in utterance["transcript"]]
    assert [utterance["channel"] for utterance in spoken] == [0]
    assert len(listen(client, stereo, "", "audio/wav").json()["results"]["channels"]) == 1


def stereo_wav(left: Any, right: Any) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        samples = (np.stack([left, right], axis=1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("redact=pci", "redact: 'pci' is not allowed; expected no value: this server does not redact transcripts"),
        ("language=xx", "language: "),
        ("detect_language=xx", "detect_language: "),
        ("utt_split=soon", "utt_split: "),
        ("paragraphs=perhaps", "paragraphs: "),
        ("model=huge", "model"),
        ("model=" + "x" * 301, "model: "),
        ("keyterm=" + "x" * 2001, "keyterm: "),
        ("tag=a" + "&tag=a" * 100, "tag: '101 values' is not allowed; expected at most 100"),
        ("extra=%00", "extra: "),
        ("callback=https://a.example/", "callback: a.example is not among the hosts that the operator allows"),
        ("callback=file:///etc/passwd", "callback: "),
        ("callback=https://a.example/&multichannel=true", "multichannel: "),
        ("callback_method=get", "callback_method: "),
    ],
    ids=lambda value: value[:24],
)
def test_invalid_parameters_are_refused(client: TestClient, short: bytes, query: str, message: str) -> None:
    response = listen(client, short, query)
    assert response.status_code in (400, 404)
    assert message in response.json()["err_msg"]


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("audio/wav", b"no audio", "the file is not audio"),
        ("audio/wav", b"", "the file is empty"),
        ("application/json", b"RIFF", "the body is not JSON"),
        ("application/json", b"{}", "url: None is not allowed; expected an address"),
        ("application/json", b'{"url": 1}', "url: 1 is not allowed"),
        ("application/json", b'{"url": "https://a.example/a.wav"}', "downloads nothing without --allow-url-fetch"),
        ("multipart/form-data; boundary=x", b"--x--", "send the file itself"),
    ],
)
def test_a_body_without_audio_is_refused(client: TestClient, content_type: str, body: bytes, message: str) -> None:
    response = listen(client, body, "", content_type)
    assert response.status_code == 400
    assert message in response.json()["err_msg"]


def test_a_body_that_is_too_large_is_refused(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(max_upload_bytes=1000, jobs=False)
    assert listen(client, short).status_code == 413
    assert client.post("/v1/listen", content=iter([short[:900], short[900:]])).status_code == 413


def test_a_body_that_cannot_be_stored_is_a_507(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    response = listen(client, bytes(2_000_000))
    assert (response.status_code, "cannot store the upload" in response.json()["err_msg"]) == (507, True)


def test_audio_over_the_limit_of_seconds_is_refused(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(max_audio_seconds=4, jobs=False)
    assert listen(client, short).status_code == 200
    stereo = stereo_wav(np.zeros(48_000, np.float32), np.zeros(48_000, np.float32))
    assert listen(client, stereo).status_code == 200
    response = listen(client, stereo, "multichannel=true")  # 6 s in all
    assert (response.status_code, response.json()["err_msg"]) == (
        413,
        "the audio is longer than 4 seconds, the limit of this server",
    )


@contextmanager
def website(content: bytes) -> Iterator[tuple[str, Queue[tuple[str, bytes]]]]:
    """Serve a file, and collect what is sent to the same address."""
    received: Queue[tuple[str, bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/a.flac" else 404)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            received.put((self.command, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        do_PUT = do_POST

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def allow_local_addresses(client: TestClient) -> None:
    jobs = client.app_state["jobs"]
    jobs.fetcher = replace(jobs.fetcher, allowed=lambda address: True)


def test_a_file_at_a_url_is_transcribed(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(allow_url_fetch=True, jobs=False)
    with website(short) as (url, _):
        private = client.post("/v1/listen", json={"url": f"{url}/a.flac"})
        assert (private.status_code, "not on the public Internet" in private.json()["err_msg"]) == (400, True)
        allow_local_addresses(client)
        response = client.post("/v1/listen?detect_language=true", json={"url": f"{url}/a.flac"})
        missing = client.post("/v1/listen", json={"url": f"{url}/b.flac"})
    assert alternative(response)["transcript"].startswith("The kettle is on the stove")
    assert response.json()["metadata"]["sha256"] == sha256(short).hexdigest()
    assert (missing.status_code, "status 404" in missing.json()["err_msg"]) == (400, True)
    assert client.post("/v1/listen", json={"url": "file:///etc/passwd"}).status_code == 400
    assert client.post("/v1/listen", json={"url": "https://a.example/" + "x" * 2000}).status_code == 400


def test_a_callback_gets_the_response(client_with: Callable[..., TestClient], tmp_path: Path, short: bytes) -> None:
    client = client_with(data_dir=tmp_path, webhook_host=("localhost",), webhook_secret=SECRET)
    with website(short) as (url, received):
        accepted = listen(client, short, f"callback={url}/hook&callback_method=put&utterances=true&tag=a&model=nova-2")
        assert accepted.json().keys() == {"request_id"}
        method, body = received.get(timeout=60)
        result = json.loads(body)
        failing = listen(client, b"no audio", f"callback={url}/hook")
        failed_method, failed_body = received.get(timeout=60)
    assert (method, failed_method) == ("PUT", "POST")
    assert result["metadata"]["request_id"] == accepted.json()["request_id"]
    assert (result["metadata"]["sha256"], result["metadata"]["tags"]) == (sha256(short).hexdigest(), ["a"])
    text = result["results"]["channels"][0]["alternatives"][0]["transcript"]
    assert text.startswith("The kettle is on the stove") and result["results"]["utterances"]
    error = json.loads(failed_body)
    assert error["request_id"] == failing.json()["request_id"] and "not audio" in error["err_msg"]
    job = "job_" + UUID(accepted.json()["request_id"]).hex
    assert client.get(f"/v1/jobs/{job}").json()["response_format"] == "deepgram"
    assert client.get(f"/v1/jobs/{job}/result").json()["text"] == text
    assert client.get(f"/v1/jobs/{job}/result?response_format=srt").text.startswith("1\n00:00")


def test_a_callback_gets_the_response_for_a_url(
    client_with: Callable[..., TestClient], tmp_path: Path, short: bytes
) -> None:
    client = client_with(data_dir=tmp_path, webhook_host=("localhost",), webhook_secret=SECRET, allow_url_fetch=True)
    allow_local_addresses(client)
    with website(short) as (url, received):
        client.post(f"/v1/listen?callback={url}/hook", json={"url": f"{url}/a.flac"})
        _, body = received.get(timeout=60)
    assert "kettle" in json.loads(body)["results"]["channels"][0]["alternatives"][0]["transcript"]


def test_a_callback_needs_jobs(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(jobs=False, webhook_host=("localhost",), webhook_secret=SECRET)
    response = listen(client, short, "callback=http://localhost/")
    assert (response.status_code, "--no-jobs" in response.json()["err_msg"]) == (503, True)
