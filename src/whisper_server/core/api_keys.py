"""API keys, which are stored as hashes.

A key has 256 random bits, so nobody can guess it from its plain SHA-256. A slow hash, which protects passwords, would
only slow down each request.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import Settings

# `use` is everything but replacing and unloading models, which is for all clients and so needs `admin`.
Scope: TypeAlias = Literal["use", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LINE = re.compile(rf"({_NAME}) sha256:([0-9a-f]{{64}})(?: +({'|'.join(SCOPES)}))?")


@dataclass(frozen=True, slots=True)
class Key:
    """`name` identifies the holder, to whom jobs, quotas and metrics belong: two keys never share one by accident."""

    name: str
    digest: bytes = field(repr=False)
    scope: Scope = "admin"

    @property
    def line(self) -> str:
        """The line of the key file for this key."""
        return f"{self.name} sha256:{self.digest.hex()}" + (" use" if self.scope == "use" else "")


class Keyring:
    """The keys that give access to this server. It is false without keys, and then everybody has access."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """Return the key with that secret, in a time that does not depend on how much of it is right."""
        digest = _digest(secret)
        matches = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return matches[0] if matches else None

    @classmethod
    def load(cls, settings: Settings) -> Keyring:
        """Return the keys of the settings and of their key file; raises SettingsError."""
        in_file = read_keys(settings.api_key_file) if settings.api_key_file else ()
        keyring = cls([*map(_unnamed_key, settings.api_key), *in_file])
        if settings.api_key_file and not keyring:
            raise SettingsError(f"there is no key in {settings.api_key_file}")
        if not settings.auth and keyring:
            raise SettingsError("--no-auth is for a server without keys, but there are keys")
        if not keyring and (settings.key_concurrency or settings.key_sessions or settings.key_rate != "none"):
            raise SettingsError(
                "--key-sessions, --key-concurrency and --key-rate are for a server with keys, but there are none"
            )
        return keyring


def create_key(name: str, scope: Scope = "admin") -> tuple[Key, str]:
    """Return a new key and its secret, which cannot be recovered from the key; raises SettingsError."""
    if not re.fullmatch(_NAME, name):
        raise SettingsError(f"{name!r} is not a name; expected up to 64 letters, digits, dots and dashes")
    secret = "wsk-" + secrets.token_urlsafe(32)
    return Key(name, _digest(secret), scope), secret


def read_keys(file: Path) -> Iterator[Key]:
    """Yield the keys of a file, without its empty lines and comments (#); raises SettingsError."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read the keys in {file}: {getattr(exc, 'strerror', None) or exc}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (match := _LINE.fullmatch(line.strip())) is None:
            # The line is not shown, as it may be a secret.
            raise SettingsError(
                f"line {number} of {file} is not NAME sha256:DIGEST [use], as `whisper-server key` prints it"
            )
        yield Key(match[1], bytes.fromhex(match[2]), cast(Scope, match[3] or "admin"))


def _unnamed_key(secret: str) -> Key:
    """Return the key of a secret that has no name; the colon keeps its name apart from those in files."""
    digest = _digest(secret)
    return Key(f"api-key:{digest.hex()[:12]}", digest)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
