"""`whisper-server key NAME`: create an API key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whisper_server.core.api_keys import SCOPES, Key, create_key, read_keys
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import CommandLineParser


def run(argv: Sequence[str]) -> int:
    """Print a new key, and print its line or append that to a file; raises SettingsError."""
    parser = CommandLineParser(
        prog="whisper-server key", description="Create an API key and print it once.", allow_abbrev=False
    )
    parser.add_argument("name", help="letters, digits, dots and dashes: how the log names the holder of the key")
    parser.add_argument("--file", type=Path, metavar="…", help="append the line to this file, for --api-key-file")
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        default="admin",
        help="use: may not change the server's models (admin: may do all)",
    )
    arguments = parser.parse_args(argv)
    key, secret = create_key(arguments.name, arguments.scope)
    if arguments.file is None:
        print(f"{secret}\nThe line for the file of --api-key-file:\n{key.line}")
    else:
        _append(arguments.file, key)
        print(secret)
    return 0


def _append(file: Path, key: Key) -> None:
    if file.exists() and key.name in {existing.name for existing in read_keys(file)}:
        raise SettingsError(f"{file} already has a key named {key.name!r}")
    try:
        file.touch(mode=0o600)
        text = file.read_text()
        with file.open("a") as lines:
            lines.write(("" if text.endswith("\n") or not text else "\n") + key.line + "\n")
    except OSError as exc:
        raise SettingsError(f"cannot write {file}: {exc.strerror}") from exc
