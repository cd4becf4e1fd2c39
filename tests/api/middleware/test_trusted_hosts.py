from __future__ import annotations

from collections.abc import Callable
from socket import gethostname

import pytest
from starlette.testclient import TestClient

from whisper_server.api.middleware.trusted_hosts import hostname


@pytest.fixture
def client(client_with: Callable[..., TestClient]) -> TestClient:
    return client_with(allow_host=("whisper.example.org", "*.lan"), host="0.0.0.0")


def status(client: TestClient, host: str, path: str = "/") -> int:
    return client.get(path, headers={"host": host}).status_code


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:5000",
        "a.localhost:5000",
        "127.0.0.1:5000",
        "[::1]:5000",
        "[::1]",
        "192.168.1.7:5000",
        "whisper.example.org",
        "Whisper.Example.org.:443",
        "nas.lan",
        "a.nas.lan:80",
        "host.docker.internal:5000",
        "host.containers.internal",
        gethostname(),
    ],
)
def test_addresses_and_names_of_this_server_are_served(client: TestClient, host: str) -> None:
    assert status(client, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "whisper.example.org.evil.example",
        "evillan.example",
        "nas.lan.evil.example",
        "",
        ":5000",
        "localhost:port",
        "user@localhost",
        "localhost/x",
        "[::1",
        "a b",
    ],
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    response = client.get("/", headers={"host": host})
    assert response.status_code == 421
    assert "--allow-host" in response.json()["error"]


PRIVATE_NAMES = ["whisper-server:5000", "nas", "raspberrypi.local", "nas.lan", "box.home.arpa", "db.internal"]


@pytest.mark.parametrize("host", PRIVATE_NAMES)
def test_private_names_are_served_beyond_this_machine_only(client_with: Callable[..., TestClient], host: str) -> None:
    assert status(client_with(host="0.0.0.0", allow_host=()), host) == 200
    assert status(client_with(host="192.168.1.7", allow_host=()), host) == 200
    for loopback in ("127.0.0.1", "::1", "localhost"):
        assert status(client_with(host=loopback, allow_host=()), host) == 421


def test_a_page_that_rebinds_its_name_reads_nothing(client_with: Callable[..., TestClient]) -> None:
    """The browser counts the server as the page's own origin, so only the host name tells that it is not."""
    page = {"host": "evil.example:5000", "origin": "http://evil.example:5000"}
    for host in ("127.0.0.1", "0.0.0.0"):
        client = client_with(host=host)
        assert client.get("/v1/models", headers=page).status_code == 421
        assert client.post("/recognise", headers=page).status_code == 421
    with_key = client_with(api_key=("a-secret-of-the-tests",))
    assert with_key.get("/v1/models", headers=page).status_code == 401
    assert with_key.post("/recognise", headers=page).status_code == 401


def test_a_request_with_a_key_may_use_any_name(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=("a-secret-of-the-tests",))
    headers = {"host": "whisper.example.org", "authorization": "Bearer a-secret-of-the-tests"}
    assert client.get("/v1/models", headers=headers).status_code == 200


def test_probes_may_use_any_name(client: TestClient) -> None:
    assert status(client, "pod-7.cluster", "/health") == status(client, "pod-7.cluster", "/ready") == 200
    assert status(client, "pod-7.cluster", "/metrics") == 421


def test_a_star_allows_any_name(client_with: Callable[..., TestClient]) -> None:
    assert status(client_with(allow_host=("*",)), "evil.example") == 200


def test_the_listening_address_is_a_trusted_name(client_with: Callable[..., TestClient]) -> None:
    assert status(client_with(host="nas.lan", allow_host=()), "nas.lan:5000") == 200


@pytest.mark.parametrize(
    ("host", "name"), [("A:1", "a"), ("[::1]:2", "::1"), ("a:-1", ""), ("a:99999", ""), ("a#", "")]
)
def test_the_hostname_of_a_header_is_normalised(host: str, name: str) -> None:
    assert hostname(host) == name
