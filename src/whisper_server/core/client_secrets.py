"""Short-lived keys, which a page may have: they open live sessions for some minutes, and nothing else.

A pass is signed, so nothing has to be kept: whoever has it can read what is in it, and change nothing.
"""

from __future__ import annotations

import binascii
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

_PREFIX = "ek_"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """`key` is the name of the key that it was made with, `session` what the session is to be."""

    key: str | None
    expires_at: int
    session: Any


class ClientSecrets:
    def __init__(self, secret: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now

    def make(self, key: str | None, session: Any, *, seconds: int) -> tuple[str, int]:
        """Return a pass and when it ends, in seconds since 1970."""
        expires_at = int(self._now()) + seconds
        body = _encoded(json.dumps([key, expires_at, session]).encode())
        return f"{_PREFIX}{body}.{self._signature(body)}", expires_at

    def find(self, secret: str) -> ClientSecret | None:
        """Return what the pass says, if it is one of ours and has not ended."""
        body, _, signature = secret.removeprefix(_PREFIX).partition(".")
        if not secret.startswith(_PREFIX) or not _equal(signature, self._signature(body)):
            return None
        try:
            found = ClientSecret(*json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        except (binascii.Error, ValueError):
            return None
        return found if found.expires_at > self._now() else None

    def _signature(self, body: str) -> str:
        return _encoded(hmac.digest(self._secret, body.encode(errors="replace"), sha256))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
