"""The command line: dispatches to a command, to `--check` or to the server, and sets the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from whisper_server.core.errors import ModelNotFound, SettingsError, WhisperServerError
from whisper_server.core.settings import Settings

# By the first argument, the module whose run() is the command. Only that one is imported, as the libraries of the
# server take seconds.
_COMMANDS: Mapping[str, str] = {
    "key": "whisper_server.cli.key",
    "listen": "whisper_server.cli.listen",
    "submit": "whisper_server.cli.submit",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 2 if a setting is wrong, 1 if something else failed, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in _COMMANDS:
            run: Callable[[Sequence[str]], int] = import_module(_COMMANDS[argv[0]]).run
            return run(argv[1:])
        return _serve(argv)
    except (SettingsError, WhisperServerError, OSError) as exc:
        print(f"whisper-server: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, (SettingsError, ModelNotFound)) else 1
    except KeyboardInterrupt:
        return 130


def _serve(argv: Sequence[str]) -> int:
    settings = Settings.load([argument for argument in argv if argument != "--check"], os.environ)
    from whisper_server.cli import serve

    return serve.check_settings(settings) if "--check" in argv else serve.run(settings)


if __name__ == "__main__":
    sys.exit(main())
