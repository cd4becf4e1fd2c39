"""The server from its settings on: a bound address, a loaded model, and then the open port."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.cli import check
from whisper_server.cli.uvicorn_protocols import Connection, Socket
from whisper_server.core import logs
from whisper_server.core.api_keys import Keyring
from whisper_server.core.settings import Settings, SettingsError
from whisper_server.jobs.service import Jobs
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger("whisper_server")

# OpenAI's clients may append 15 MiB of audio at once.
_LARGEST_FRAME = 24 * 2**20
# What live sessions that a stop has ended get to say their last words.
_LAST_WORDS = 5.0
_LARGEST_HEADERS = 64 * 1024


def run(settings: Settings) -> int:
    """Serve until a signal; returns 0. Raises WhisperServerError or OSError where it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_certificate(settings)
    _allow_connections()
    with _bound_socket(settings.host, settings.port) as sock:
        host, port = sock.getsockname()[:2]
        _check_exposure(host, settings)
        models = load_models(settings)
        scheme = "https" if settings.ssl_certfile else "http"
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        config = server_config(settings, create_app(settings, models))
        with suppress(KeyboardInterrupt):  # uvicorn raises its signal again after it has shut down
            _Server(config, banner=f"serving {models} on {url}").run(sockets=[sock])
        models.close()
    logger.info("stopped")
    return 0


def try_out(settings: Settings) -> int:
    """Try all that a start needs, without one; returns 0 if it would serve, or 1."""

    def address() -> str:
        with _bound_socket(settings.host, settings.port) as sock:
            _check_exposure(sock.getsockname()[0], settings)
        return f"{settings.host} port {settings.port}"

    def certificate() -> str:
        _check_certificate(settings)
        return f"https with {settings.ssl_certfile}" if settings.ssl_certfile else "http"

    return check.run(settings, [("address", address), ("certificate", certificate)])


def server_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    """Return how the application is served."""
    # uvicorn makes one of these for each connection, so a function will do.
    connection: Callable[..., Any] = partial(Connection, timeout=settings.receive_timeout)
    return uvicorn.Config(
        app,
        http=connection,  # type: ignore[arg-type]
        ws=Socket,
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=_LARGEST_HEADERS,
        ws_max_size=_LARGEST_FRAME,
        # Audio hardly gets smaller, and what unpacks to a thousand times its size is a way to fill the memory.
        ws_per_message_deflate=False,
        root_path=settings.root_path,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )


def _allow_connections() -> None:
    """Each takes a descriptor, and the limit that programs start with is often 1024 of many more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_certificate(settings: Settings) -> None:
    if settings.ssl_certfile is None:
        if settings.ssl_keyfile is not None:
            raise SettingsError("--ssl-keyfile is of no use without --ssl-certfile")
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")
    except OSError as exc:
        raise SettingsError(f"cannot use the certificate {settings.ssl_certfile} with its key: {exc}") from exc


def _check_exposure(host: str, settings: Settings) -> None:
    """Whoever can reach the server can use it, unless it wants a key."""
    if not Keyring.load(settings) and settings.auth and not ip_address(host.partition("%")[0]).is_loopback:
        raise SettingsError(
            f"{host} can be reached from other machines and there is no key: make one with `whisper-server key NAME` "
            "for --api-key-file, or give --no-auth if everybody may come in"
        )


def _bound_socket(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded, so that a taken port fails at once; it opens with `listen()`."""
    with ExitStack() as on_failure:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            sock = on_failure.enter_context(socket.socket(family, kind, proto))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except (OSError, UnicodeError) as exc:
            raise OSError(f"cannot listen on {host} port {port}: {getattr(exc, 'strerror', None) or exc}") from exc
        on_failure.pop_all()
    return sock


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, banner: str) -> None:
        super().__init__(config)
        self._banner = banner
        self._last_words = float(config.timeout_graceful_shutdown or 0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logger.info("%s", self._banner)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn would close all WebSockets at once, in the middle of a word, and wait for whoever follows a job."""
        jobs: Jobs = self.lifespan.state["jobs"]
        jobs.end_events()
        sessions: SessionLimits = self.lifespan.state["sessions"]
        await sessions.drain(min(self._last_words, _LAST_WORDS))
        await super().shutdown(sockets)
