"""Binds the addresses to listen on, before the model is loaded: an address that is taken fails at once."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from whisper_server.core.errors import AddressUnavailable

_HTTP_HINTS: Mapping[int, str] = {
    errno.EADDRINUSE: "choose another --port, or 0 for a free one; or stop the program that uses this port",
    errno.EACCES: "choose a --port of 1024 or above",
    0: "choose a --host that is an address of this machine",
}
_WYOMING_HINTS: Mapping[int, str] = {
    errno.EADDRINUSE: "choose another port for --wyoming, or stop the program that uses this one",
    errno.EACCES: "choose a port of 1024 or above for --wyoming",
    0: "choose a --wyoming address of this machine",
}
_SOCKET_HINT = "choose another --wyoming unix:///PATH, in a directory that this user can write to"
# The owner and the group of the server may connect.
_SOCKET_MODE = 0o660


def bind_tcp(host: str, port: int, hints: Mapping[int, str] = _HTTP_HINTS) -> socket.socket:
    """Return a bound socket; raises AddressUnavailable."""
    with ExitStack() as on_failure:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            sock = on_failure.enter_context(socket.socket(family, kind, proto))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            hint = hints.get(getattr(exc, "errno", None) or 0, hints[0])
            raise AddressUnavailable(f"cannot listen on {host} port {port}: {reason}", hint=hint) from exc
        on_failure.pop_all()
    return sock


@contextmanager
def wyoming_socket(uri: str) -> Iterator[socket.socket]:
    """Yield a bound socket for a value of --wyoming; the file of a Unix socket exists until the end of the block.

    Raises AddressUnavailable.
    """
    parts = urlsplit(uri)
    if parts.scheme == "unix":
        with _unix_socket(Path(uri.removeprefix("unix://"))) as sock:
            yield sock
    else:
        with bind_tcp(parts.hostname or "", parts.port or 0, _WYOMING_HINTS) as sock:
            yield sock


def wyoming_address(sock: socket.socket) -> str:
    """Return the URI of a bound socket, with the port that the system chose."""
    address = sock.getsockname()
    if isinstance(address, str):
        return f"unix://{address}"
    host, port = address[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


@contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    if sys.platform == "win32":
        raise AddressUnavailable("there are no Unix sockets on Windows", hint="choose --wyoming tcp://HOST:PORT")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _remove_stale(path)
            sock.bind(str(path))
            # Nobody can connect before the server listens, so there is no moment with other permissions.
            path.chmod(_SOCKET_MODE)
            created = path.stat().st_ino
        except OSError as exc:
            message = f"cannot listen on {path}: {exc.strerror or exc}"
            raise AddressUnavailable(message, hint=_SOCKET_HINT) from exc
        try:
            yield sock
        finally:
            if path.exists() and path.stat().st_ino == created:
                path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed server left; raises OSError if it is in use or no socket."""
    if sys.platform == "win32" or not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "the file exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink()
