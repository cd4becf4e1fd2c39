"""Announces the server on the local network by zeroconf (mDNS), where Home Assistant looks for Wyoming servers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from ipaddress import ip_address

from zeroconf import Error
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from whisper_server.core.errors import without_errno

logger = logging.getLogger(__name__)

_TYPE = "_wyoming._tcp.local."
# The address of mDNS. Connecting a UDP socket to it sends nothing; the system only chooses a source address.
_MDNS = ("224.0.0.251", 5353)
# A name has up to 63 bytes.
_MAX_HOST_NAME = 40


class Announcement:
    """`host` and `port` are those of the bound socket. Failures are logged: the server works without it."""

    def __init__(self, host: str, port: int, open_zeroconf: Callable[[], AsyncZeroconf] = AsyncZeroconf) -> None:
        self._host = host
        self._port = port
        self._open_zeroconf = open_zeroconf
        self._zeroconf: AsyncZeroconf | None = None
        self.announced = False

    async def start(self) -> None:
        try:
            service = service_info(self._host, self._port)
            self._zeroconf = self._open_zeroconf()
            await self._zeroconf.async_register_service(service)
            self.announced = True
            logger.info("announced %s by zeroconf", service.name)
        except (OSError, Error) as exc:
            reason = without_errno(exc) or type(exc).__name__
            logger.warning("the Wyoming server cannot be announced by zeroconf: %s", reason)

    async def stop(self) -> None:
        """Withdraw the announcement."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
            self._zeroconf = None


def service_info(host: str, port: int, *, host_name: str | None = None) -> AsyncServiceInfo:
    """Return what Home Assistant finds. Raises OSError if the address is to be chosen and there is no network."""
    name = (host_name or socket.gethostname()).partition(".")[0][:_MAX_HOST_NAME]
    return AsyncServiceInfo(
        _TYPE,
        f"whisper-server-{name}-{port}.{_TYPE}",
        port=port,
        parsed_addresses=[_reachable_address(host)],
        server=f"{name}.local.",
    )


def _reachable_address(host: str) -> str:
    """Return the address, or that of the local network if the server listens on all."""
    if not ip_address(host.partition("%")[0]).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MDNS)
        return str(probe.getsockname()[0])
