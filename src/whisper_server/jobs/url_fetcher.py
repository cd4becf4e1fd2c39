"""Audio from addresses that clients name, and only from public ones.

A name is resolved once, every address that it has is checked, and the connection goes to a checked address: a name that
points elsewhere a moment later (DNS rebinding) gains nothing. Redirects are followed by the same rules.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import BinaryIO, TypeAlias
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from whisper_server import __version__
from whisper_server.core.errors import BadAddress, FetchFailed, UploadTooLarge

Resolve: TypeAlias = Callable[[str, int], list[str]]

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK = 1 << 18
_PORTS = {"http": 80, "https": 443}
_NAT64 = IPv6Network("64:ff9b::/96")
_HEADERS = {"user-agent": f"whisper-server/{__version__}", "accept": "*/*"}


def resolve(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def checked(url: str, param: str = "url") -> SplitResult:
    """Return the parts of an http or https address; raises BadAddress."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad(url, param) from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or not plain or "@" in parts.netloc:
        raise _bad(url, param)
    return parts


def name_of(url: str) -> str:
    """The last part of an address's path, or its host."""
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or ""


def is_public(address: str) -> bool:
    """Whether an address is on the public Internet, also below IPv6's ways to write an IPv4 one."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        within_nat64 = ip_address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None
        found = found.ipv4_mapped or found.sixtofour or within_nat64 or found
    return found.is_global and not found.is_multicast


class Fetcher:
    """Gets files of up to `max_bytes`; `timeout` is that of each wait, in seconds."""

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout: float,
        resolve: Resolve = resolve,
        allowed: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._resolve = resolve
        self._allowed = allowed
        self._context = context or ssl.create_default_context()

    def fetch(self, url: str, target: BinaryIO, check: Callable[[], None]) -> int:
        """Write the file and return its size; raises BadAddress, FetchFailed, UploadTooLarge or what `check` raises."""
        for _ in range(_MOST_REDIRECTS + 1):
            with self._answer(checked(url)) as answer:
                if answer.status in _REDIRECTS and (place := answer.getheader("location")):
                    url = urljoin(url, place)
                    continue
                if answer.status != 200:
                    raise _refusal(answer.status)
                return self._copied(answer, target, check)
        raise BadAddress(f"the address leads to more than {_MOST_REDIRECTS} others")

    @contextmanager
    def _answer(self, parts: SplitResult) -> Iterator[http.client.HTTPResponse]:
        connection = self._connected(parts)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            with _failures(parts):
                connection.request("GET", path, headers=_HEADERS)
                answer = connection.getresponse()
            yield answer
        finally:
            connection.close()

    def _connected(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        address = self._checked_address(host, port)
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        with _failures(parts):
            plain = socket.create_connection((address, port), self._timeout)
            # A connection that has a socket makes none of its own.
            connection.sock = (
                self._context.wrap_socket(plain, server_hostname=host) if parts.scheme == "https" else plain
            )
        return connection

    def _checked_address(self, host: str, port: int) -> str:
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise FetchFailed(f"there is no host {host}") from exc
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise BadAddress(f"{host} is not on the public Internet")
        return addresses[0]

    def _copied(self, answer: http.client.HTTPResponse, target: BinaryIO, check: Callable[[], None]) -> int:
        if (answer.length or 0) > self._max_bytes:
            raise UploadTooLarge(self._max_bytes)
        size = 0
        while block := _read(answer):
            check()
            size += len(block)
            if size > self._max_bytes:
                raise UploadTooLarge(self._max_bytes)
            target.write(block)
        if answer.length:
            raise FetchFailed("the file ended before its end")
        return size


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_BLOCK)
    except (OSError, http.client.HTTPException) as exc:
        raise FetchFailed("the connection broke in the middle of the file") from exc


@contextmanager
def _failures(parts: SplitResult) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FetchFailed(f"{parts.hostname} cannot be reached: {exc}") from exc


def _refusal(status: int) -> BadAddress | FetchFailed:
    """A client's error stays one; what a server says to a server may pass."""
    message = f"the address answers with the status {status}"
    return FetchFailed(message) if status >= 500 or status in (408, 429) else BadAddress(message)


def _bad(url: str, param: str) -> BadAddress:
    exc = BadAddress(f"{param}: {url[:80]!r} is not allowed; expected an http or https address without a password")
    exc.param = param
    return exc
