"""The command line: runs a command, by default the server, and sets the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from whisper_server.core.errors import HintedError, ModelNotFound, SettingsError, WhisperServerError, without_errno
from whisper_server.core.settings import Settings, did_you_mean

# By the first argument, the module whose run() is the command. Only that one is imported, as the libraries of the
# server take seconds.
_COMMANDS: Mapping[str, str] = {
    "key": "whisper_server.cli.key",
    "listen": "whisper_server.cli.client.listen",
    "models": "whisper_server.cli.models",
    "pull": "whisper_server.cli.pull",
    "submit": "whisper_server.cli.client.submit",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 2 if a setting is wrong, 1 if something else failed, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        command, arguments = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("serve", argv)
        if command in ("serve", "check"):
            return _serve(arguments, check=command == "check" or "--check" in arguments)
        if command not in _COMMANDS:
            hint = did_you_mean(command, ("serve", "check", *_COMMANDS)) or "run whisper-server --help"
            raise SettingsError(f"unknown command {command!r}", hint=hint)
        run: Callable[[Sequence[str]], int] = import_module(_COMMANDS[command]).run
        return run(arguments)
    except (SettingsError, WhisperServerError, OSError) as exc:
        print(f"whisper-server: {_message(exc)}", file=sys.stderr)
        return 2 if isinstance(exc, (SettingsError, ModelNotFound)) else 1
    except KeyboardInterrupt:
        return 130


def _serve(arguments: Sequence[str], *, check: bool) -> int:
    settings = Settings.load([argument for argument in arguments if argument != "--check"], os.environ)
    from whisper_server.cli import serve

    return serve.check_settings(settings) if check else serve.run(settings)


def _message(exc: Exception) -> str:
    """Return the error as one line and its hint as another, without the numbers of the operating system's errors."""
    if isinstance(exc, HintedError):
        return f"{exc.message}\n  → {exc.hint}" if exc.hint else exc.message
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{exc.filename}: {exc.strerror}"
    return without_errno(exc)


if __name__ == "__main__":
    sys.exit(main())
