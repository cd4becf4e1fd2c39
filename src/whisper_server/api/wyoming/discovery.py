"""Announces the server on the local network by zeroconf (mDNS), where Home Assistant looks for Wyoming servers."""

from __future__ import annotations

import logging
import socket
from ipaddress import ip_address

from zeroconf import Error
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

logger = logging.getLogger(__name__)

_TYPE = "_wyoming._tcp.local."
# The address of mDNS. Connecting a UDP socket to it sends nothing; the system only chooses a source address.
_MDNS = ("224.0.0.251", 5353)
# Names have up to 63 bytes.
_MAX_HOST_NAME = 40


class Announcement:
    """`host` and `port` are those of the bound socket. Failures are logged: the server works without it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> None:
        try:
            service = self._service()
            self._zeroconf = AsyncZeroconf()
            await self._zeroconf.async_register_service(service)
            logger.info("announced %s by zeroconf", service.name)
        except (OSError, Error) as exc:
            logger.warning("the Wyoming server cannot be announced by zeroconf: %s", exc or type(exc).__name__)

    async def stop(self) -> None:
        """Withdraw the announcement."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def _service(self) -> AsyncServiceInfo:
        name = socket.gethostname().partition(".")[0][:_MAX_HOST_NAME]
        return AsyncServiceInfo(
            _TYPE,
            f"whisper-server-{name}-{self._port}.{_TYPE}",
            port=self._port,
            parsed_addresses=[_reachable_address(self._host)],
            server=f"{name}.local.",
        )


def _reachable_address(host: str) -> str:
    """Return the address, or that of the local network if the server listens on all."""
    if not ip_address(host.partition("%")[0]).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MDNS)
        return str(probe.getsockname()[0])
