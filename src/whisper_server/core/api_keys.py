"""API keys: made, kept as hashes, and recognised.

A key has 256 random bits, so its plain SHA-256 tells nothing: there is nothing to guess from, and a slow hash, which
protects passwords, would only slow down each request.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from whisper_server.core.settings import Parser, Settings, SettingsError

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}) sha256:([0-9a-f]{64})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    digest: bytes = field(repr=False)

    @property
    def line(self) -> str:
        """What stands in the file of keys."""
        return f"{self.name} sha256:{self.digest.hex()}"


class Keyring:
    """The keys that open this server; false without any, and then everybody may come in."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """Return the key of that secret, in a time that does not depend on how much of it is right."""
        digest = _digest(secret)
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None

    @classmethod
    def load(cls, settings: Settings) -> Keyring:
        """Return the keys of the settings and of their file; raises SettingsError."""
        given = [Key(f"api-key-{i}", _digest(secret)) for i, secret in enumerate(settings.api_key, 1)]
        keyring = cls([*given, *(_read(settings.api_key_file) if settings.api_key_file else ())])
        if settings.api_key_file and not keyring:
            raise SettingsError(f"there is no key in {settings.api_key_file}")
        if not settings.auth and keyring:
            raise SettingsError("--no-auth is for a server without keys, and there are keys")
        if not keyring and (settings.key_concurrency or settings.key_sessions or settings.key_rate != "none"):
            raise SettingsError(
                "--key-sessions, --key-concurrency and --key-rate are for a server with keys, and there are none"
            )
        return keyring


def make(name: str) -> tuple[Key, str]:
    """Return a new key and its secret, which nobody can find out again."""
    secret = "wsk-" + secrets.token_urlsafe(32)
    return Key(name, _digest(secret)), secret


def run(argv: Sequence[str]) -> int:
    """`whisper-server key NAME`: print a new key, and its line or put that into a file; raises SettingsError."""
    parser = Parser(prog="whisper-server key", description="Make a key and print it once.", allow_abbrev=False)
    parser.add_argument("name", help="letters, digits, dots, dashes: what the log calls whoever has the key")
    parser.add_argument("--file", type=Path, metavar="…", help="append the key's line to this file of --api-key-file")
    arguments = parser.parse_args(argv)
    if not _NAME.fullmatch(arguments.name):
        raise SettingsError(f"{arguments.name!r} is not a name; expected up to 64 letters, digits, dots and dashes")
    key, secret = make(arguments.name)
    if arguments.file is None:
        print(f"{secret}\nThe line for the file of --api-key-file:\n{key.line}")
    else:
        _append(arguments.file, key)
        print(secret)
    return 0


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _append(file: Path, key: Key) -> None:
    if file.exists() and key.name in {known.name for known in _read(file)}:
        raise SettingsError(f"{file} has a key of the name {key.name!r} already")
    try:
        file.touch(mode=0o600)
        text = file.read_text()
        with file.open("a") as lines:
            lines.write(("" if text.endswith("\n") or not text else "\n") + key.line + "\n")
    except OSError as exc:
        raise SettingsError(f"cannot write {file}: {exc.strerror}") from exc


def _read(file: Path) -> Iterator[Key]:
    """Yield the keys of a file; lines that are empty or begin with # say nothing."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read the keys in {file}: {getattr(exc, 'strerror', None) or exc}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (found := _LINE.fullmatch(line.strip())) is None:
            # Not shown: somebody may have put a secret there.
            raise SettingsError(f"line {number} of {file} is not NAME sha256:DIGEST, as `whisper-server key` makes it")
        yield Key(found[1], bytes.fromhex(found[2]))
