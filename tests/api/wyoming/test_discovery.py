from __future__ import annotations

import errno
import socket

import anyio
import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from whisper_server.api.wyoming.discovery import Announcement, service_info

PORT = 10_300


def test_the_service_is_one_of_home_assistant() -> None:
    service = service_info("192.0.2.7", PORT, host_name="nas.example.org")
    assert service.name == "whisper-server-nas-10300._wyoming._tcp.local."
    assert service.parsed_addresses() == ["192.0.2.7"]
    assert (service.port, service.server) == (PORT, "nas.local.")


def test_the_service_is_announced_until_it_stops() -> None:
    service = service_info("127.0.0.1", PORT)

    async def announce() -> list[ServiceInfo | None]:
        announcement = Announcement("127.0.0.1", PORT)
        await announcement.start()
        if not announcement.announced:
            pytest.skip("needs a network with multicast")
        found: list[ServiceInfo | None] = []
        for _ in range(2):
            browser = AsyncZeroconf()
            found.append(await browser.async_get_service_info(service.type, service.name, 500))
            await browser.async_close()
            await announcement.stop()
        return found

    found, later = anyio.run(announce)
    assert found is not None and (found.port, found.parsed_addresses()) == (PORT, ["127.0.0.1"])
    assert later is None


def test_a_network_without_multicast_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> AsyncZeroconf:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    async def announce() -> None:
        announcement = Announcement("127.0.0.1", PORT, open_zeroconf=fail)
        await announcement.start()
        await announcement.stop()

    anyio.run(announce)
    assert "cannot be announced by zeroconf: Network is unreachable" in caplog.text


def test_the_address_of_all_interfaces_becomes_one_that_can_be_reached() -> None:
    try:
        (address,) = service_info("0.0.0.0", PORT).parsed_addresses()
    except OSError:
        pytest.skip("needs a network")
    assert address != "0.0.0.0" and socket.inet_aton(address)
