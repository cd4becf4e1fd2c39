"""The command line: what the program is to do, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from whisper_server.core.errors import ModelNotFound, WhisperServerError
from whisper_server.core.settings import Settings, SettingsError

# What else the program does than serve, by its first word: the module whose run() does it. Each is imported alone, as
# the libraries of the server take seconds.
_COMMANDS: Mapping[str, str] = {
    "key": "whisper_server.core.api_keys",
    "listen": "whisper_server.cli.listen",
    "submit": "whisper_server.cli.submit",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal, a command or a check; returns 1 if that could not be, or 2 if a setting is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in _COMMANDS:
            run: Callable[[Sequence[str]], int] = import_module(_COMMANDS[argv[0]]).run
            return run(argv[1:])
        return _serve(argv)
    except (SettingsError, ModelNotFound) as exc:
        return _fail(exc, 2)
    except (WhisperServerError, OSError) as exc:
        return _fail(exc, 1)
    except KeyboardInterrupt:
        return 130


def _serve(argv: Sequence[str]) -> int:
    settings = Settings.load([word for word in argv if word != "--check"], os.environ)
    from whisper_server.cli import serve

    return serve.try_out(settings) if "--check" in argv else serve.run(settings)


def _fail(exc: Exception, status: int) -> int:
    print(f"whisper-server: {exc}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
