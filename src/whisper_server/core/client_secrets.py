"""Client secrets: short-lived keys for web pages, which open live sessions and do little else.

A client secret is signed, so the server stores nothing. Its holder can read its content, but not change it.
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
from typing import Any, Literal, TypeAlias

_PREFIX = "ek_"


# What a client secret may do: open live sessions; and also transcribe files with Deepgram's API.
Scope: TypeAlias = Literal["live", "listen"]


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """`key` is the name of the API key that created it, `session` the configuration of the session, if there is one."""

    key: str | None
    expires_at: int
    session: Any
    scope: Scope = "live"


class ClientSecrets:
    def __init__(self, secret: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now

    def make(self, key: str | None, session: Any, *, seconds: int, scope: Scope = "live") -> tuple[str, int]:
        """Return a client secret that is valid for `seconds`, and when it expires, in seconds since 1970."""
        expires_at = int(self._now()) + seconds
        body = _encode(json.dumps([key, expires_at, session, scope]).encode()).decode()
        return f"{_PREFIX}{body}.{self._signature(body).decode()}", expires_at

    def find(self, secret: str) -> ClientSecret | None:
        """Return the content of a client secret; None if this server did not sign it, or if it has expired."""
        body, _, signature = secret.removeprefix(_PREFIX).partition(".")
        signature_is_valid = hmac.compare_digest(signature.encode(errors="replace"), self._signature(body))
        if not secret.startswith(_PREFIX) or not signature_is_valid:
            return None
        try:
            content = ClientSecret(*json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        except (binascii.Error, ValueError):
            return None
        return content if content.expires_at > self._now() else None

    def _signature(self, body: str) -> bytes:
        return _encode(hmac.digest(self._secret, body.encode(errors="replace"), sha256))


def _encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
