"""From settings to a running server: bind the address, load the model, then listen."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from anyio import create_task_group
from starlette.types import ASGIApp

from whisper_server.app import create_app
from whisper_server.bootstrap import build_database, build_storage, load_models
from whisper_server.cli import check
from whisper_server.cli.server.listeners import bind_tcp
from whisper_server.cli.server.uvicorn_protocols import ExpectedEvents, HTTPProtocol, WebSocketProtocol
from whisper_server.cli.server.wyoming_listener import Listener, wyoming_listener
from whisper_server.cli.terminal import startup_lines
from whisper_server.core import logs
from whisper_server.core.addresses import is_loopback
from whisper_server.core.api_keys import Keyring
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import Settings
from whisper_server.jobs.service import Jobs
from whisper_server.live.session_limits import SessionLimits

logger = logging.getLogger("whisper_server")

# OpenAI's clients may append 15 MiB of audio at once, which base64 makes 20 MiB.
_MAX_FRAME_BYTES = 24 * 2**20
_MAX_HEADER_BYTES = 64 * 1024
# Seconds in which live sessions send their last results at a shutdown.
_SESSION_DRAIN_TIMEOUT = 5.0


def run(settings: Settings) -> int:
    """Serve until a signal; returns 0. Raises SettingsError, WhisperServerError or OSError if it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    logging.getLogger("uvicorn.error").addFilter(ExpectedEvents())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_certificate(settings)
    _check_jobs(settings)
    _raise_descriptor_limit()
    with bind_tcp(settings.host, settings.port) as sock, wyoming_listener(settings) as wyoming:
        host, port = sock.getsockname()[:2]
        _check_exposure(host, settings)
        on_terminal = sys.stderr.isatty() and settings.log_format == "text"
        with startup_lines(sys.stderr, settings.log_level) if on_terminal else nullcontext(_log_ready) as show_ready:
            models = load_models(settings)
        scheme = "https" if settings.ssl_certfile else "http"
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        config = server_config(settings, create_app(settings, models))
        with suppress(KeyboardInterrupt):  # uvicorn raises its signal again after it has shut down
            on_started = partial(show_ready, str(models), url, wyoming.address)
            _Server(config, wyoming, on_started=on_started).run(sockets=[sock])
        models.close()
    logger.info("stopped")
    return 0


def check_settings(settings: Settings) -> int:
    """Test everything that a start needs, without a start; returns 0 if the server can run, otherwise 1."""

    def address() -> str:
        with bind_tcp(settings.host, settings.port) as sock:
            _check_exposure(sock.getsockname()[0], settings)
        return f"{settings.host} port {settings.port}"

    def jobs() -> str:
        _check_jobs(settings)
        if not settings.jobs:
            return "off"
        _check_writable(settings.data_dir)
        return f"data directory {settings.data_dir}"

    def wyoming() -> str:
        with wyoming_listener(settings) as listener:
            return listener.address or "off"

    steps: list[check.Step] = [
        ("address", address),
        ("certificate", partial(_check_certificate, settings)),
        ("jobs", jobs),
        ("wyoming", wyoming),
    ]
    return check.run(settings, steps)


def _log_ready(model: str, url: str, wyoming: str) -> None:
    if wyoming:
        logger.info("listening for Wyoming clients on %s", wyoming)
    logger.info("serving %s on %s", model, url)


def server_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    # uvicorn calls this for each connection, so it does not have to be a class.
    http_protocol: Callable[..., Any] = partial(HTTPProtocol, timeout=settings.receive_timeout)
    return uvicorn.Config(
        app,
        http=http_protocol,  # type: ignore[arg-type]
        ws=WebSocketProtocol,
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        ws_max_size=_MAX_FRAME_BYTES,
        # Audio hardly compresses, and a frame that grows a thousandfold when inflated could exhaust the memory.
        ws_per_message_deflate=False,
        root_path=settings.root_path,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )


def _raise_descriptor_limit() -> None:
    """Each connection takes a file descriptor, and the default limit is often 1024 where many more are allowed."""
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _check_certificate(settings: Settings) -> str:
    """Describe the transport; raises SettingsError."""
    if settings.ssl_certfile is None:
        if settings.ssl_keyfile is not None:
            raise SettingsError("--ssl-keyfile needs --ssl-certfile")
        return "http"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")
    except OSError as exc:
        raise SettingsError(f"cannot use the certificate {settings.ssl_certfile} with its key: {exc}") from exc
    return f"https with {settings.ssl_certfile}"


def _check_exposure(host: str, settings: Settings) -> None:
    """Everyone who can reach the server can use it, unless it requires a key."""
    if not Keyring.load(settings) and settings.auth and not is_loopback(host):
        raise SettingsError(
            f"{host} can be reached from other machines and there is no key",
            hint="create a key with `whisper-server key NAME` for --api-key-file, or allow everybody with --no-auth",
        )


def _check_jobs(settings: Settings) -> None:
    """Raise the SettingsError of create_app() or its lifespan before the model is loaded."""
    build_database(settings)
    build_storage(settings)


def _check_writable(directory: Path) -> None:
    """Write a temporary file to the directory, or to the one where it would be created; raises SettingsError."""
    try:
        path = directory.absolute()
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as exc:
        raise SettingsError(
            f"the data directory {directory} cannot be used: {exc.strerror or exc}",
            hint="choose a --data-dir that this user can write to, or turn jobs off with --no-jobs",
        ) from exc


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, wyoming: Listener, *, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._wyoming = wyoming
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            await self._wyoming.start(self.lifespan.state)
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End event streams and live sessions first: uvicorn would wait for the former and cut the latter off."""
        jobs: Jobs = self.lifespan.state["jobs"]
        jobs.end_events()
        sessions: SessionLimits = self.lifespan.state["sessions"]
        timeout = self.config.timeout_graceful_shutdown or 0
        async with create_task_group() as group:
            group.start_soon(self._wyoming.stop, timeout)
            await sessions.drain(min(timeout, _SESSION_DRAIN_TIMEOUT))
            await super().shutdown(sockets)
            if self.force_exit:
                group.cancel_scope.cancel()
