"""The effect of idle connections and slow uploads on other clients.

    python -m benchmarks.server.slow_clients tests/audio/short.flac --model tiny.en --idle 1000 --slow 200

Opens idle connections, and uploads that send one byte a second, then requests /health 100 times and one transcript of
the clip. Reports how long these took without and with the slow clients, and the memory of the server.
"""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx2

from benchmarks.report import argument_parser
from benchmarks.server_process import ServerProcess, resident_megabytes

_UPLOAD_START = (
    b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b'Content-Length: 10000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
)
_HEALTH_REQUESTS = 100


@dataclass(frozen=True)
class Measurement:
    """Latencies in seconds, and the resident memory of the server."""

    slowest_health: float
    median_health: float
    transcript: float
    megabytes: float


@dataclass(frozen=True)
class Report:
    """`health_on_arrival` is the latency of /health while all slow clients connect at once, in seconds."""

    without: Measurement
    health_on_arrival: float
    with_slow_clients: Measurement


def compare(url: str, pid: int, clip: Path, *, idle: int, slow: int) -> Report:
    """Measure the server without and with slow clients."""
    measure(url, pid, clip)
    without = measure(url, pid, clip)
    with slow_clients(url, idle=idle, slow=slow):
        return Report(without, _health_seconds(url), measure(url, pid, clip))


def measure(url: str, pid: int, clip: Path) -> Measurement:
    """Each request has a new connection."""
    health = sorted(_health_seconds(url) for _ in range(_HEALTH_REQUESTS))
    started = time.perf_counter()
    httpx2.post(f"{url}/recognise", files={"file": clip.read_bytes()}, timeout=600).raise_for_status()
    transcript = time.perf_counter() - started
    return Measurement(health[-1], health[len(health) // 2], transcript, resident_megabytes(pid))


def _health_seconds(url: str) -> float:
    address = urlsplit(url)
    started = time.perf_counter()
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
        connection.request("GET", "/health")
        if (status := connection.getresponse().status) != 200:
            raise RuntimeError(f"/health responds with {status}")
    return time.perf_counter() - started


@contextmanager
def slow_clients(url: str, *, idle: int, slow: int) -> Iterator[None]:
    address = urlsplit(url)
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(idle + slow)
        ]
        uploads = sockets[:slow]
        for upload in uploads:
            upload.sendall(_UPLOAD_START)
        stopped = Event()
        sender = Thread(target=_send_slowly, args=(uploads, stopped))
        sender.start()
        try:
            yield
        finally:
            stopped.set()
            sender.join()


def _send_slowly(uploads: list[socket.socket], stopped: Event) -> None:
    while not stopped.wait(1):
        for upload in uploads:
            try:
                upload.sendall(b"x")
            except OSError:
                return


def raise_descriptor_limit() -> None:
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--idle", type=int, default=1000, help="connections that send nothing")
    parser.add_argument("--slow", type=int, default=200, help="uploads of one byte a second")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    with ServerProcess("--model", arguments.model) as server:
        report = compare(server.url, server.pid, arguments.clip, idle=arguments.idle, slow=arguments.slow)
    print(json.dumps(asdict(report), indent=1))


if __name__ == "__main__":
    main()
