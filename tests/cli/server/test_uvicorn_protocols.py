"""Misbehaving clients: how the server responds, and that it still serves the next client."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
import uvicorn
from servers import LiveServer, live_server
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from whisper_server.cli.serve import server_config
from whisper_server.cli.server.uvicorn_protocols import FrameLimit
from whisper_server.core.settings import Settings

KEY = "a-secret-of-the-tests"
HEAD = b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server("--receive-timeout", "1", "--max-upload-bytes", "3000000", "--max-requests", "4") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.remaining_log()


@pytest.fixture(autouse=True)
def the_next_client_is_served(server: LiveServer) -> Iterator[None]:
    yield
    assert httpx2.get(f"{server.url}/health", timeout=5).status_code == 200


@contextmanager
def connected(server: LiveServer) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as client:
        yield client


def read_to_end(client: socket.socket) -> bytes:
    """Return everything the server sends until it closes the connection; fails after 20 s without a byte."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def statuses(responses: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", responses)]


@pytest.mark.parametrize("sent", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_a_connection_without_a_request_is_closed(server: LiveServer, sent: bytes) -> None:
    with connected(server) as client:
        client.sendall(sent)
        assert statuses(read_to_end(client)) == []


def test_slow_headers_do_not_keep_a_connection_open(server: LiveServer) -> None:
    started = time.monotonic()
    with connected(server) as client:
        client.settimeout(0.1)
        with pytest.raises(OSError):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            while time.monotonic() < started + 15:
                client.sendall(b"X: y\r\n")
                try:
                    if not client.recv(1):
                        raise ConnectionResetError
                except TimeoutError:
                    continue
    assert time.monotonic() - started < 10


def test_a_stalled_upload_gets_a_408(server: LiveServer) -> None:
    with connected(server) as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + PART)
        response = read_to_end(client)
    assert statuses(response) == [408]
    assert b"the upload was too slow" in response and b"connection: close" in response.lower()


def test_a_half_closed_upload_gets_a_408(server: LiveServer) -> None:
    with connected(server) as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + PART)
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_to_end(client)) in ([], [400], [408])


def test_a_half_closed_connection_counts_as_disconnected(server: LiveServer) -> None:
    with connected(server) as client:
        client.sendall(HEAD + b"Content-Length: 4\r\n\r\nabcd")
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_to_end(client)) in ([], [400])


def test_a_refused_upload_does_not_keep_a_connection_open(server: LiveServer) -> None:
    """uvicorn would read and discard its body without a limit."""
    with connected(server) as client:
        client.sendall(HEAD.replace(b"localhost", b"evil.example") + b"Content-Length: 1000000000\r\n\r\n")
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < started + 15:
                client.sendall(bytes(1000))
        assert time.monotonic() - started < 10


def test_a_huge_body_is_refused_at_its_headers(server: LiveServer) -> None:
    with connected(server) as client:
        client.sendall(HEAD + b"Content-Length: 1000000000000000\r\n\r\n")
        assert statuses(client.recv(65536)) == [413]


def test_an_endless_chunked_body_is_refused(server: LiveServer) -> None:
    with connected(server) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + PART.ljust(0x10000, b"x") + b"\r\n"
        for _ in range(60):
            client.sendall(chunk)
        assert statuses(client.recv(65536)) == [413]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 20_000 + b"--b--\r\n", 400),
        (b"--b\r\n" + b"X-A: y\r\n" * 200_000 + b"\r\n1\r\n--b--\r\n", 400),
        (b"--b\r\nContent-Disposition: form-data; name=" + b"a" * 2_000_000 + b"\r\n\r\n1\r\n--b--\r\n", 400),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"1" * 2_000_000 + b"\r\n--b--\r\n", 400),
        (PART * 1000 + b"\r\n--b--\r\n", 400),
        (PART + b"\r\n" + (PART + b"\r\n") * 20 + b"--b--\r\n", 400),
    ],
    ids=["fields", "headers of a part", "a long header of a part", "a long field", "a part in a part", "files"],
)
def test_oversized_forms_are_refused(server: LiveServer, body: bytes, status: int) -> None:
    started = time.monotonic()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert httpx2.post(f"{server.url}/recognise", content=body, headers=headers, timeout=20).status_code == status
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: y\r\n" * 20_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS",
        b"\x00" * 1000,
    ],
    ids=["many", "a long header", "a long path", "no host", "two hosts", "TLS", "zeros"],
)
def test_malformed_or_oversized_headers_get_a_400(server: LiveServer, head: bytes) -> None:
    with connected(server) as client:
        try:
            client.sendall(head)
        except OSError:
            return  # refused before all was sent
        assert statuses(read_to_end(client)) in ([400], [])


def test_pipelined_requests_are_answered_in_order(server: LiveServer) -> None:
    request = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connected(server) as client:
        client.sendall(request % b"health" + request % b"ready" + HEAD + b"Content-Length: 0\r\n\r\n" + last)
        assert statuses(read_to_end(client)) == [200, 200, 400, 404]


def test_slow_uploads_do_not_block_other_requests(server: LiveServer, audio: Path) -> None:
    """There are more of them than --max-requests."""
    address = urlsplit(server.url)
    slow = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
    try:
        for client in slow:
            client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + PART)
        files = {"file": (audio / "short.flac").read_bytes()}
        response = httpx2.post(f"{server.url}/recognise", files=files, timeout=60)
        assert response.status_code == 200
        assert [statuses(read_to_end(client)) for client in slow] == [[408]] * 20
    finally:
        for client in slow:
            client.close()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(str(len(await websocket.receive_bytes())))


@contextmanager
def served(app: WebSocketRoute, **changed: float) -> Iterator[str]:
    """Serve a WebSocket with the configuration of the real server, except for the attributes in `changed`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        config = server_config(Settings(), Starlette(routes=[app]))
        for name, value in changed.items():
            setattr(config, name, value)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{sock.getsockname()[1]}/ws"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.full
def test_websocket_frames_have_a_size_limit() -> None:
    with served(WebSocketRoute("/ws", echo)) as url:
        with connect(url) as client:
            client.send(bytes(1_000_000))
            assert client.recv(timeout=20) == "1000000"
            with pytest.raises(ConnectionClosed) as caught:
                client.send(bytes(25 * 2**20))
                client.recv(timeout=20)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009


def handshake_status(url: str, subprotocols: list[str] | None) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(url.replace("http", "ws"), subprotocols=subprotocols):  # type: ignore[arg-type]
        pass
    return caught.value.response.status_code


def test_the_key_is_checked_before_the_body() -> None:
    with live_server("--log-level", "debug", WHISPER_SERVER_API_KEY=KEY) as server:
        with connected(server) as client:
            client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
            assert statuses(client.recv(65536)) == [401]
        headers = {"authorization": f"Bearer {KEY}"}
        assert httpx2.get(f"{server.url}/metrics?api_key={KEY}", headers=headers).status_code == 200
        for key, status in (("a-wrong-key", 401), (KEY, 404)):  # there is no such WebSocket
            assert handshake_status(f"{server.url}/nowhere", ["realtime", f"openai-insecure-api-key.{key}"]) == status
            assert handshake_status(f"{server.url}/nowhere?api_key={key}", None) == status
        assert server.stop() == 0
        assert KEY not in "".join(server.log) + server.remaining_log()


def test_a_throttled_client_is_not_considered_dead() -> None:
    """Its pongs wait behind data that the application has not read yet."""

    async def busy(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_bytes()
        await anyio.sleep(1.5)
        for _ in range(9):
            await websocket.receive_bytes()
        await websocket.send_text("all here")

    with served(WebSocketRoute("/ws", busy), ws_ping_interval=0.1, ws_ping_timeout=0.2) as url, connect(url) as client:
        for _ in range(10):
            client.send(bytes(300_000))
        assert client.recv(timeout=20) == "all here"


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_a_client_that_answers_no_pings_is_considered_dead() -> None:
    with served(WebSocketRoute("/ws", echo), ws_ping_interval=0.1, ws_ping_timeout=0.2) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as client:
            client.sendall(HANDSHAKE)
            assert b"keepalive ping timeout" in read_to_end(client)


MASK = bytes(4)
PING, FIRST_BYTE, NEXT_BYTE = (
    bytes([head, 0x80 | len(data)]) + MASK + data for head, data in ((0x89, b""), (2, b"x"), (0, b"x"))
)


@pytest.mark.parametrize("frames", [PING * 300_000, FIRST_BYTE + NEXT_BYTE * 300_000], ids=["pings", "fragments"])
def test_masses_of_short_frames_end_the_connection(frames: bytes) -> None:
    with served(WebSocketRoute("/ws", echo)) as url, connect(url) as other:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as client:
            client.sendall(HANDSHAKE)
            client.recv(1000)
            sender = Thread(target=suppressing(OSError, client.sendall), args=(frames,))
            sender.start()
            received = b""
            while b"\x03\xf0too many short frames" not in received:  # the code is 1008
                part = client.recv(65536)
                assert part, "the connection ended without the reason"
                received += part
            client.shutdown(socket.SHUT_RDWR)
            sender.join()
        other.send(bytes(10))
        assert other.recv(timeout=20) == "10"


def test_short_frames_before_the_handshake_is_accepted_end_the_connection() -> None:
    async def deaf(websocket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):
            await websocket.state.disconnected.wait()

    with served(WebSocketRoute("/ws", deaf)) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as client:
            with suppress(OSError):
                client.sendall(HANDSHAKE + PING * 300_000)
            with suppress(ConnectionResetError):
                assert client.recv(1000) == b""


def test_streams_of_audio_are_not_limited() -> None:
    """At any speed in frames of 10 ms, and 2,000 frames of any length at once."""
    with served(WebSocketRoute("/ws", echo)) as url, connect(url) as client:
        for size, count in ((320, 5_000), (1, 1_500)):
            for _ in range(count):
                client.send(bytes(size))
            assert [client.recv(timeout=20) for _ in range(count)] == [str(size)] * count


def test_short_frames_are_limited_per_second() -> None:
    now = 0.0
    limit = FrameLimit(lambda: now)
    assert limit.allows(2_000, 0)
    assert not limit.allows(1, 0)
    now = 1.0
    assert limit.allows(499, 0) and not limit.allows(1, 0)
    now = 100.0
    assert limit.allows(100, 16_000) and limit.allows(2_000, 0) and not limit.allows(1, 0)


def suppressing(error: type[Exception], call: Callable[..., Any]) -> Callable[..., None]:
    def run(*args: Any) -> None:
        with suppress(error):
            call(*args)

    return run


def test_a_disconnect_is_detected_while_nothing_is_read() -> None:
    detected: list[float] = []

    async def not_reading(websocket: WebSocket) -> None:
        await websocket.accept()
        with anyio.move_on_after(20):
            await websocket.state.disconnected.wait()
            detected.append(time.monotonic())

    with served(WebSocketRoute("/ws", not_reading)) as url:
        client = connect(url).__enter__()
        for _ in range(10):
            client.send(bytes(10_000))
        client.socket.shutdown(socket.SHUT_RDWR)
        disconnected = time.monotonic()
        while not detected and time.monotonic() < disconnected + 10:
            time.sleep(0.01)
    assert detected and detected[0] - disconnected < 5


def test_frames_are_not_compressed() -> None:
    """A compressed frame can grow a thousandfold, which could exhaust the memory."""
    with served(WebSocketRoute("/ws", echo)) as url, connect(url, compression="deflate") as client:
        assert client.protocol.extensions == []
