"""The program as a process: its port, its log, its shutdown, and the clients of the reference project."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import trustme
from faster_whisper import decode_audio
from inference.containers import RECIPES, encode, mutated
from servers import LiveServer, live_server


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server("--max-upload-bytes", "3000000") as running:
        yield running


def test_the_banner_has_the_model_the_device_and_the_url(server: LiveServer) -> None:
    banner = server.log[-1]
    assert re.search(r"serving tiny\.en \(cpu, int8, \d+ MB\) on http://127\.0\.0\.1:\d+", banner), banner


def browser_post(server: LiveServer, fields: list[tuple[str, str, str, bytes]]) -> tuple[int, dict[str, object]]:
    """Send what a browser sends for `fetch("/recognise", {method: "POST", body: new FormData(form)})`."""
    boundary = "----WebKitFormBoundaryA1b2C3d4E5f6G7h8"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, filename, content_type, content in fields
    ]
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request(
        "POST",
        "/recognise",
        b"".join(parts) + f"--{boundary}--\r\n".encode(),
        {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Origin": server.url,
            "Referer": server.url + "/",
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate, br, zstd",
        },
    )
    response = connection.getresponse()
    try:
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_page_of_the_reference_project_works(server: LiveServer, audio: Path) -> None:
    """It posts the file of the form and shows `transcription.segments[].text`."""
    status, body = browser_post(server, [("file", "short.flac", "audio/flac", (audio / "short.flac").read_bytes())])
    assert status == 200
    transcription = body["transcription"]
    assert isinstance(transcription, dict)
    assert "stove" in "".join(segment["text"] for segment in transcription["segments"])


def test_the_page_of_the_reference_project_without_a_file(server: LiveServer) -> None:
    assert browser_post(server, [("file", "", "application/octet-stream", b"")]) == (400, {"error": "No file selected"})


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_commands_of_the_reference_project_work(server: LiveServer, audio: Path) -> None:
    def curl(*arguments: str) -> object:
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    response = curl("-X", "POST", "-F", f"file=@{audio / 'short.flac'}", f"{server.url}/recognise")
    assert isinstance(response, dict)
    assert response["transcription"]["language"] == "en"
    body = ["-H", "Content-Type: application/json", "-d", '{"model_name": "tiny.en"}']
    assert curl("-X", "POST", *body, f"{server.url}/reload") == {"message": "Model tiny.en loaded"}


def test_an_oversized_upload_gets_a_413(server: LiveServer) -> None:
    """The server responds while the client is still sending, and the client can read the response."""
    files = {"file": ("long.wav", bytes(20_000_000))}
    assert httpx2.post(f"{server.url}/recognise", files=files, timeout=60).status_code == 413


def test_a_transcription_does_not_block_other_requests(server: LiveServer, audio: Path) -> None:
    with ThreadPoolExecutor() as pool:
        files = {"file": ("long.flac", (audio / "long.flac").read_bytes())}
        long = pool.submit(httpx2.post, f"{server.url}/recognise", files=files, timeout=120)
        while not long.done():
            assert httpx2.get(f"{server.url}/", timeout=5).status_code == 200
        assert long.result().status_code == 200


def test_a_disconnect_cancels_the_transcription(audio: Path) -> None:
    content = (audio / "long.flac").read_bytes()
    head = (
        "POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: {}\r\n\r\n"
    )
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + content + b"\r\n--b--\r\n"
    with live_server() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(head.format(len(body)).encode() + body)
        assert "the client disconnected" in server.wait_for(r"the client disconnected|transcribed")
        assert server.stop() == 0
        assert "transcribed" not in server.remaining_log()


@pytest.mark.measure
def test_damaged_files_leak_no_resources(audio: Path) -> None:
    """Each gets a response within 5 s, and the numbers of file descriptors and threads stay the same.

    The server has no jobs, whose maintenance runs in a varying number of threads.
    """
    rng = random.Random(1122)
    speech = decode_audio(str(audio / "short.flac"))[:24_000]
    files = [mutated(rng, encode(speech, recipe)) for recipe in RECIPES.values()]
    with live_server("--no-jobs") as server, httpx2.Client(base_url=server.url, timeout=5) as client:
        counts = []
        for file in [encode(speech, RECIPES["wav"]), *files]:
            response = client.post("/recognise", files={"file": ("a", file)}, data={"temperature": "0"})
            assert response.status_code in (200, 400, 413)
            counts.append([len(os.listdir(f"/proc/{server.process.pid}/{kind}")) for kind in ("fd", "task")])
        assert counts[-1] == counts[0]
        assert server.stop() == 0


@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_a_signal_lets_requests_finish_and_refuses_new_ones(audio: Path, signal_sent: signal.Signals) -> None:
    with live_server("--log-level", "debug") as server, ThreadPoolExecutor() as pool:
        files = {"file": ("long.flac", (audio / "long.flac").read_bytes())}
        running = pool.submit(httpx2.post, f"{server.url}/recognise", files=files, timeout=120)
        server.wait_for("Processing audio with duration")
        server.process.send_signal(signal_sent)
        server.wait_for("Shutting down")
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(server.url, timeout=10)
        assert "clocks" in running.result().json()["transcription"]["text"]
        assert server.process.wait(60) == 0


def test_a_shutdown_has_a_time_limit(audio: Path) -> None:
    """A transcription that does not finish in time is cancelled at its next window, which is no error in the log."""
    with live_server("--log-level", "debug", "--shutdown-timeout", "0") as server, ThreadPoolExecutor() as pool:
        files = {"file": ("long.flac", (audio / "long.flac").read_bytes())}
        running = pool.submit(httpx2.post, f"{server.url}/recognise", files=files, timeout=120)
        server.wait_for("Processing audio with duration")
        assert server.stop() == 0
        assert running.result().status_code == 503
        assert "retry-after" in running.result().headers
        log = "".join(server.log) + server.remaining_log()
    assert "WARNING uvicorn.error: Cancel 1 running task(s)" in log
    assert "POST /recognise 503" in log
    assert "ERROR" not in log and "Traceback" not in log


def test_https_works_with_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    with live_server("--ssl-certfile", str(tmp_path / "both.pem"), "--host", "localhost") as server:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        url = server.url.replace("127.0.0.1", "localhost")
        assert httpx2.get(f"{url}/health", verify=context).json() == {"status": "ok"}
        same_origin = {"origin": url}
        assert httpx2.post(f"{url}/reload", verify=context, headers=same_origin, content=b"[]").status_code == 400
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{url}/health".replace("https", "http"))
        assert server.stop() == 0


def test_a_proxy_can_serve_it_below_a_path() -> None:
    """The proxy removes the path, and the pages of the server have relative links."""
    with live_server("--root-path", "/speech", "--api-key", "a-secret-of-the-tests") as server:
        assert httpx2.get(f"{server.url}/").status_code == 200
        assert httpx2.get(f"{server.url}/web/app/main.js").status_code == 200
        assert httpx2.get(f"{server.url}/metrics").status_code == 401
        assert httpx2.get(f"{server.url}/v1/nowhere").json()["error"]["code"] == "invalid_api_key"


def test_every_log_line_can_be_json() -> None:
    with live_server("--log-format", "json", "--log-level", "debug") as server:
        httpx2.get(f"{server.url}/health", headers={"x-request-id": "r1"})
        with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port)) as client:
            client.sendall(b"nonsense\r\n\r\n")
            client.recv(1000)
        assert server.stop() == 0
        lines = [json.loads(line) for line in [*server.log, *server.remaining_log().splitlines()]]
    access_logger = "whisper_server.api.middleware.request_log"
    assert {"uvicorn.error", "whisper_server", access_logger} <= {line["logger"] for line in lines}
    (access,) = [line for line in lines if line["logger"] == access_logger]
    assert (access["request_id"], access["path"], access["status"]) == ("r1", "/health", 200)


def test_an_idle_server_stops_with_exit_code_0() -> None:
    with live_server() as server:
        assert server.stop() == 0
