"""The command line: settings, a bound address, a loaded model, and then the open port."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import uvicorn

from whisper_server.app import create_app, load_models
from whisper_server.errors import ModelNotFound, WhisperServerError
from whisper_server.settings import Settings, SettingsError

logger = logging.getLogger("whisper_server")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; returns 0, 1 if the server could not start, or 2 if a setting is wrong."""
    try:
        return _serve(Settings.load(sys.argv[1:] if argv is None else argv, os.environ))
    except (SettingsError, ModelNotFound) as exc:
        return _fail(exc, 2)
    except (WhisperServerError, OSError) as exc:
        return _fail(exc, 1)
    except KeyboardInterrupt:
        return 130


def _fail(exc: Exception, status: int) -> int:
    print(f"whisper-server: {exc}", file=sys.stderr)
    return status


def _serve(settings: Settings) -> int:
    _configure_logging(settings.log_level)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _bound_socket(settings.host, settings.port) as sock:
        models = load_models(settings)
        host, port = sock.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            create_app(settings, models),
            log_config=None,
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises its signal again after it has shut down
            _Server(config, banner=f"serving {models.current} on {url}").run(sockets=[sock])
        models.close()
    logger.info("stopped")
    return 0


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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logger.info("%s", self._banner)


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if level == "info":
        # They announce every step of a start and every file, and that is said once already.
        for name in ("uvicorn.error", "faster_whisper", "httpx2", "httpx", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
