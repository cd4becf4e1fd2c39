from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, ClassVar

import pytest
import trustme

from whisper_server.core.errors import BadAddress, FetchFailed, UploadTooLarge
from whisper_server.jobs.url_fetcher import Fetcher, file_name_of, is_public, parse_url

CONTENT = b"audio " * 100_000


class Site(BaseHTTPRequestHandler):
    hosts: ClassVar[list[str]] = []
    released: ClassVar[Event] = Event()

    def do_GET(self) -> None:
        self.hosts.append(self.headers["host"])
        self._responses[self.path.partition("?")[0]](self)

    def _file(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def _broken(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(2 * len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def _redirect(self) -> None:
        self.send_response(int(self.path[len("/redirect") :].partition("?")[0] or 302))
        self.send_header("location", self.path.partition("?")[2])
        self.end_headers()

    def _drip(self) -> None:
        """Send byte by byte, for ever: a header, or the length of a chunk, or the file."""
        where = self.path.partition("?")[2]
        self.wfile.write(b"HTTP/1.1 200 OK\r\nserver: x")
        if where != "header":
            self.wfile.write(b"\r\n" + (b"transfer-encoding: chunked\r\n\r\n" if where == "chunk" else b"\r\n"))
        with suppress(OSError):
            while not self.released.wait(0.05):
                self.wfile.write(b"0")

    def _partial(self) -> None:
        self.send_response(206)
        self.end_headers()

    def _missing(self) -> None:
        self.send_error(404)

    def _busy(self) -> None:
        self.send_error(503)

    _responses: ClassVar[dict[str, Callable[[Site], None]]] = {
        "/file.mp3": _file,
        "/endless": _endless,
        "/broken": _broken,
        "/redirect": _redirect,
        "/redirect301": _redirect,
        "/redirect303": _redirect,
        "/redirect307": _redirect,
        "/redirect308": _redirect,
        "/drip": _drip,
        "/partial": _partial,
        "/missing": _missing,
        "/busy": _busy,
    }

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as port:
        yield port


def resolve_to_localhost(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def fetcher(max_bytes: int = 10_000_000, **changed: Any) -> Fetcher:
    """Return a fetcher that may connect to this machine."""
    options: dict[str, Any] = {"resolve": resolve_to_localhost, "allowed": lambda address: True, "timeout": 5}
    return Fetcher(max_bytes=max_bytes, **{**options, **changed})


def never_stop() -> None:
    pass


def fetch(fetcher: Fetcher, url: str) -> bytes:
    target = io.BytesIO()
    assert fetcher.fetch(url, target, never_stop) == len(target.getvalue())
    return target.getvalue()


@pytest.mark.parametrize("path", ["file.mp3", "endless", "redirect?/file.mp3", "redirect?redirect?file.mp3"])
def test_a_file_is_fetched(port: int, path: str) -> None:
    assert fetch(fetcher(), f"http://audio.example:{port}/{path}") == CONTENT
    assert Site.hosts[-1] == f"audio.example:{port}"


@pytest.mark.parametrize("status", ["", 301, 303, 307, 308])
def test_redirects_are_followed(port: int, status: object) -> None:
    assert fetch(fetcher(), f"http://audio.example:{port}/redirect{status}?/file.mp3") == CONTENT


def test_five_redirects_are_followed(port: int) -> None:
    assert fetch(fetcher(), f"http://audio.example:{port}/{'redirect?/' * 5}file.mp3") == CONTENT


@pytest.mark.parametrize("where", ["header", "chunk", "file"])
def test_a_server_that_sends_byte_by_byte_is_given_up(port: int, where: str) -> None:
    started = time.monotonic()
    with pytest.raises(FetchFailed, match="cannot be reached|connection was lost|slower than 32 kB a second"):
        fetch(fetcher(timeout=0.5), f"http://audio.example:{port}/drip?{where}")
    assert 0.5 <= time.monotonic() - started < 4


def test_an_unknown_host_is_reported() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror("unknown")

    with pytest.raises(FetchFailed, match="there is no host audio.example"):
        fetch(fetcher(resolve=resolve), "http://audio.example/")


def test_a_file_of_the_maximum_size_is_fetched(port: int) -> None:
    assert fetch(fetcher(max_bytes=len(CONTENT)), f"http://audio.example:{port}/file.mp3") == CONTENT
    with pytest.raises(UploadTooLarge):
        fetch(fetcher(max_bytes=len(CONTENT) - 1), f"http://audio.example:{port}/file.mp3")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("partial", BadAddress, "206"),
        ("missing", BadAddress, "404"),
        ("busy", FetchFailed, "503"),
        ("broken", FetchFailed, "incomplete"),
        ("redirect?/redirect?/redirect?/redirect?/redirect?/redirect?/file.mp3", BadAddress, "more than 5"),
        ("redirect?file:///etc/passwd", BadAddress, "file:///etc/passwd"),
    ],
)
def test_a_failed_download_is_reported(port: int, path: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fetch(fetcher(), f"http://audio.example:{port}/{path}")


@pytest.mark.parametrize("path", ["file.mp3", "endless"])
def test_a_file_that_is_too_large_is_refused(port: int, path: str) -> None:
    with pytest.raises(UploadTooLarge):
        fetch(fetcher(max_bytes=1000), f"http://audio.example:{port}/{path}")


def test_an_unreachable_server_is_reported() -> None:
    with serving() as closed:
        pass
    with pytest.raises(FetchFailed, match="cannot be reached"):
        fetch(fetcher(), f"http://audio.example:{closed}/")


def test_a_fetch_can_be_stopped(port: int) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fetcher().fetch(f"http://audio.example:{port}/file.mp3", io.BytesIO(), stop)


def test_certificates_are_checked_for_the_host_name() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("audio.example")
    client_context, server_context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client_context)
    certificate.configure_cert(server_context)
    with serving(server_context) as port:
        assert fetch(fetcher(context=client_context), f"https://audio.example:{port}/file.mp3") == CONTENT
        with pytest.raises(FetchFailed, match="certificate"):
            fetch(fetcher(context=client_context), f"https://other.example:{port}/file.mp3")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1"])
def test_this_machine_is_not_fetched_from(port: int, host: str) -> None:
    before = len(Site.hosts)
    with pytest.raises((BadAddress, FetchFailed)):
        fetch(Fetcher(max_bytes=10**7, timeout=5), f"http://{host}:{port}/file.mp3")
    assert len(Site.hosts) == before


def test_dns_rebinding_is_prevented(port: int) -> None:
    """The name is resolved once, and the connection is made to that address."""
    addresses = [["127.0.0.1"], ["10.0.0.1"]]

    def rebinding(host: str, port: int) -> list[str]:
        return addresses.pop(0)

    url = f"http://rebind.example:{port}/file.mp3"
    assert fetch(fetcher(resolve=rebinding, allowed=lambda address: address == "127.0.0.1"), url) == CONTENT
    assert addresses == [["10.0.0.1"]]


def test_a_host_with_any_private_address_is_refused(port: int) -> None:
    with pytest.raises(BadAddress, match="public"):
        fetch(
            Fetcher(max_bytes=1, timeout=1, resolve=lambda host, port: ["93.184.216.34", "10.0.0.1"]),
            "http://two.example/",
        )


def test_a_redirect_to_a_private_address_is_refused(port: int) -> None:
    def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host == "inside.example" else ["127.0.0.1"]

    def allowed(address: str) -> bool:
        return address == "127.0.0.1"

    with pytest.raises(BadAddress, match="inside.example"):
        fetch(fetcher(resolve=resolve, allowed=allowed), f"http://a.example:{port}/redirect?http://inside.example/")


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_other_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "file:///etc/passwd", "//a.example/", "a.example", "http://", "http://a.example:99999/",
        "http://a.example:0/", "http://me:secret@a.example/", "http://a b.example/", "http://a.example/ä", "http://[::1/",
    ],
)  # fmt: skip
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(BadAddress):
        parse_url(url)


def test_the_file_name_is_taken_from_the_url() -> None:
    assert file_name_of("https://a.example/x/talk%20one.mp3?a=b") == "talk one.mp3"
    assert file_name_of("https://a.example/") == "a.example"
