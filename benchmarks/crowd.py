"""A crowd at the door: idle connections and slow uploads, while others want to be served.

    python benchmarks/crowd.py tests/audio/short.flac --model tiny.en --idle 1000 --slow 200

Opens so many connections that send nothing and so many uploads that send a byte a second, and then asks for /health
100 times and for a transcript of the clip. Says how long these took, without the crowd and with it, and what the crowd
took of the server's memory.
"""

from __future__ import annotations

import argparse
import json
import re
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
from running import running_server

_HEAD = (
    b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b'Content-Length: 10000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
)
_PROBES = 100


@dataclass
class Look:
    """Seconds, and megabytes of the server."""

    slowest_health: float
    median_health: float
    transcript: float
    megabytes: float


@dataclass
class Report:
    """`arrival` is how long /health takes in the moment in which all of them come, in seconds."""

    alone: Look
    arrival: float
    crowded: Look


def crowd(url: str, pid: int, clip: Path, *, idle: int, slow: int) -> Report:
    """Look at the server without a crowd and with one."""
    look(url, pid, clip)
    alone = look(url, pid, clip)
    with gathered(url, idle=idle, slow=slow):
        return Report(alone, _health(url), look(url, pid, clip))


def look(url: str, pid: int, clip: Path) -> Look:
    """Each request has a connection of its own, as a newcomer's has."""
    seconds = sorted(_health(url) for _ in range(_PROBES))
    started = time.perf_counter()
    httpx2.post(f"{url}/recognise", files={"file": clip.read_bytes()}, timeout=600).raise_for_status()
    transcript = time.perf_counter() - started
    return Look(seconds[-1], seconds[len(seconds) // 2], transcript, megabytes(pid))


def _health(url: str) -> float:
    address = urlsplit(url)
    started = time.perf_counter()
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
        connection.request("GET", "/health")
        if connection.getresponse().status != 200:
            raise RuntimeError("it does not live")
    return time.perf_counter() - started


def megabytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return round(int(found.group(1)) / 1024, 1)


@contextmanager
def gathered(url: str, *, idle: int, slow: int) -> Iterator[None]:
    address = urlsplit(url)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(idle + slow)
        ]
        for client in clients[:slow]:
            client.sendall(_HEAD)
        stop = Event()
        dripping = Thread(target=_drip, args=(clients[:slow], stop))
        dripping.start()
        try:
            yield
        finally:
            stop.set()
            dripping.join()


def _drip(clients: list[socket.socket], stop: Event) -> None:
    while not stop.wait(1):
        for client in clients:
            try:
                client.sendall(b"x")
            except OSError:
                return


def raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=200)
    arguments = parser.parse_args()
    raise_descriptor_limit()
    with running_server(arguments.model) as (url, pid):
        report = crowd(url, pid, arguments.clip, idle=arguments.idle, slow=arguments.slow)
    print(json.dumps(asdict(report), indent=1))


if __name__ == "__main__":
    main()
