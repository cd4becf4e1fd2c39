"""The Wyoming server beside that for HTTP: bound before the model is loaded, started and stopped with uvicorn."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from whisper_server.cli.server.listeners import wyoming_address, wyoming_socket
from whisper_server.core.addresses import is_loopback
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import Settings

if TYPE_CHECKING:
    from whisper_server.api.wyoming.discovery import Announcement
    from whisper_server.api.wyoming.server import WyomingServer

logger = logging.getLogger(__name__)


class Listener(Protocol):
    # The URI; empty if nothing listens.
    address: str

    async def start(self, state: Mapping[str, Any]) -> None:
        """Serve with the objects of `api.state.AppState`."""

    async def stop(self, timeout: float) -> None:
        """Close the address, and end after the running transcriptions or the timeout, in seconds."""


class NoListener:
    address = ""

    async def start(self, state: Mapping[str, Any]) -> None:
        pass

    async def stop(self, timeout: float) -> None:
        pass


class WyomingListener:
    def __init__(self, sock: socket.socket, announcement: Announcement | None) -> None:
        self.address = wyoming_address(sock)
        self._socket = sock
        self._announcement = announcement
        self._server: WyomingServer | None = None

    async def start(self, state: Mapping[str, Any]) -> None:
        self._server = _server_class()(state["transcriber"], state["models"], state["metrics"], state["settings"])
        await self._server.start(self._socket)
        if self._announcement is not None:
            await self._announcement.start()

    async def stop(self, timeout: float) -> None:
        if self._announcement is not None:
            await self._announcement.stop()
        if self._server is not None:
            await self._server.stop(timeout)


@contextmanager
def wyoming_listener(settings: Settings) -> Iterator[Listener]:
    """Yield the listener of --wyoming, whose address is bound; raises SettingsError or AddressUnavailable."""
    if not settings.wyoming:
        if settings.wyoming_zeroconf:
            raise _unreachable()
        yield NoListener()
        return
    _server_class()
    with wyoming_socket(settings.wyoming) as sock:
        if _is_exposed(sock):
            logger.warning("anyone who can reach %s can use this server: Wyoming has no keys", wyoming_address(sock))
        yield WyomingListener(sock, _announcement(sock) if settings.wyoming_zeroconf else None)


def _server_class() -> type[WyomingServer]:
    try:
        from whisper_server.api.wyoming.server import WyomingServer
    except ImportError as exc:
        raise _missing("--wyoming", "wyoming") from exc
    return WyomingServer


def _announcement(sock: socket.socket) -> Announcement:
    if not _is_exposed(sock):
        raise _unreachable()
    try:
        from whisper_server.api.wyoming.discovery import Announcement
    except ImportError as exc:
        raise _missing("--wyoming-zeroconf", "zeroconf") from exc
    return Announcement(*sock.getsockname()[:2])


def _unreachable() -> SettingsError:
    message = "--wyoming-zeroconf needs a --wyoming address that other machines can reach"
    return SettingsError(message, hint="add --wyoming tcp://0.0.0.0:10300")


def _missing(flag: str, package: str) -> SettingsError:
    return SettingsError(f"{flag} needs the package {package}", hint="pip install 'whisper-server[wyoming]'")


def _is_exposed(sock: socket.socket) -> bool:
    """Whether other machines can reach it."""
    address = sock.getsockname()
    return not isinstance(address, str) and not is_loopback(address[0])
