"""Downloads audio from URLs of clients, from public addresses only.

A host name is resolved once, all of its addresses are checked, and the connection is made to a checked address. This
defeats DNS rebinding. The same rules apply to redirects.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address
from threading import Event, Thread
from typing import BinaryIO, TypeAlias
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from whisper_server import __version__
from whisper_server.core.errors import BadAddress, FetchFailed, UploadTooLarge

Resolve: TypeAlias = Callable[[str, int], list[str]]

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK = 1 << 18
# A download that is slower than this on average is given up: a job waits for it.
_MIN_BYTES_PER_SECOND = 32_000
_PORTS = {"http": 80, "https": 443}
_NAT64 = IPv6Network("64:ff9b::/96")
_HEADERS = {"user-agent": f"whisper-server/{__version__}", "accept": "*/*"}


def resolve(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def parse_url(url: str, param: str = "url") -> SplitResult:
    """Return the parts of an http or https URL; raises BadAddress."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad(url, param) from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or not plain or "@" in parts.netloc:
        raise _bad(url, param)
    return parts


def file_name_of(url: str) -> str:
    """Return the last part of the URL's path, or its host."""
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or ""


def is_public(address: str) -> bool:
    """Whether an IP address is on the public Internet, including IPv4 addresses embedded in IPv6."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        within_nat64 = ip_address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or within_nat64 or ip
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches files of up to `max_bytes`.

    A server has `timeout` seconds to respond, and for the whole file as much more as the minimum rate allows.
    """

    max_bytes: int
    timeout: float
    resolve: Resolve = resolve
    allowed: Callable[[str], bool] = is_public
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, url: str, target: BinaryIO, check: Callable[[], None]) -> int:
        """Write the file to `target` and return its size in bytes.

        `check` is called for each block. Raises BadAddress, FetchFailed, UploadTooLarge or what `check` raises.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            with self._response(parse_url(url)) as (response, deadline):
                if response.status in _REDIRECTS and (location := response.getheader("location")):
                    url = urljoin(url, location)
                    continue
                if response.status != 200:
                    raise _status_error(response.status)
                return self._copy(response, target, check, deadline)
        raise BadAddress(f"the URL redirects more than {_MAX_REDIRECTS} times")

    @contextmanager
    def _response(self, parts: SplitResult) -> Iterator[tuple[http.client.HTTPResponse, Deadline]]:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        address = self._checked_address(host, port)
        with closing(http.client.HTTPConnection(host, port, timeout=self.timeout)) as connection:
            with _fetch_errors(parts):
                # An HTTPConnection that has a socket does not open one.
                connection.sock = sock = socket.create_connection((address, port), self.timeout)
            with Deadline(sock.dup(), self.timeout) as deadline:
                with _fetch_errors(parts):
                    if parts.scheme == "https":
                        connection.sock = self.context.wrap_socket(sock, server_hostname=host)
                    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                    connection.request("GET", path, headers=_HEADERS)
                    response = connection.getresponse()
                yield response, deadline

    def _checked_address(self, host: str, port: int) -> str:
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise FetchFailed(f"there is no host {host}") from exc
        if not addresses or not all(self.allowed(address) for address in addresses):
            raise BadAddress(f"{host} is not on the public Internet")
        return addresses[0]

    def _copy(
        self, response: http.client.HTTPResponse, target: BinaryIO, check: Callable[[], None], deadline: Deadline
    ) -> int:
        if (response.length or 0) > self.max_bytes:
            raise UploadTooLarge(self.max_bytes)
        size = 0
        while block := _read(response):
            check()
            size += len(block)
            deadline.extend(len(block) / _MIN_BYTES_PER_SECOND)
            if size > self.max_bytes:
                raise UploadTooLarge(self.max_bytes)
            target.write(block)
        if deadline.passed:
            raise FetchFailed(f"the download is slower than {_MIN_BYTES_PER_SECOND // 1000} kB a second")
        if response.length:
            raise FetchFailed("the download is incomplete")
        return size


class Deadline:
    """Shuts a connection down at the end of its time.

    The socket's own timeout applies to each operation, so a server that sends byte by byte would never exceed it.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._at = time.monotonic() + seconds
        self._finished = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Deadline:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._finished.set()
        self._thread.join()
        self._sock.close()

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._at

    def extend(self, seconds: float) -> None:
        self._at += seconds

    def _watch(self) -> None:
        while not self._finished.wait(max(0.0, self._at - time.monotonic())):
            if self.passed:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
                return


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as exc:
        raise FetchFailed("the connection was lost during the download") from exc


@contextmanager
def _fetch_errors(parts: SplitResult) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FetchFailed(f"{parts.hostname} cannot be reached: {exc}") from exc


def _status_error(status: int) -> BadAddress | FetchFailed:
    """Errors of the server itself may be temporary; the others are the client's."""
    message = f"the URL responds with status {status}"
    return FetchFailed(message) if status >= 500 or status in (408, 429) else BadAddress(message)


def _bad(url: str, param: str) -> BadAddress:
    exc = BadAddress(f"{param}: {url[:80]!r} is not allowed; expected an http or https URL without a password")
    exc.param = param
    return exc
