"""Limits on concurrent and slow uploads.

A request counts towards `max_requests` only once its body is complete, so slow clients do not block others.
"""

from __future__ import annotations

import time

from anyio import fail_after
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_server.api.errors import route_path
from whisper_server.core.errors import Overloaded, UploadTimedOut

# Live sessions are limited by live/session_limits.py instead.
_LIVE = ("/v1/stream",)
_RETRY_AFTER = 5
# In bytes per second: slower uploads only block others. Speech in the most economical codecs is slightly faster.
_SLOWEST = 500


class UploadLimitMiddleware:
    """Limits the bodies being read to `max_uploads` at a time, and to `timeout` seconds without a byte.

    In all, a client may keep the server waiting for the timeout and a second for each 500 bytes that it has sent.
    """

    def __init__(self, app: ASGIApp, *, max_uploads: int, timeout: float) -> None:
        self._app = app
        self._max_uploads = max_uploads
        self._timeout = timeout
        self._current = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in _LIVE:
            return await self._app(scope, receive, send)
        upload = _Upload(self, receive, self._timeout)
        try:
            await self._app(scope, upload.receive, send)
        finally:
            upload.end()

    def begin(self) -> None:
        """Count an upload; raises Overloaded."""
        if self._current >= self._max_uploads:
            raise Overloaded(f"{self._max_uploads} uploads are in progress", _RETRY_AFTER)
        self._current += 1

    def end(self) -> None:
        self._current -= 1


class _Upload:
    """One body, counted from the first call of `receive` to its last byte."""

    def __init__(self, uploads: UploadLimitMiddleware, receive: Receive, timeout: float) -> None:
        self._uploads = uploads
        self._receive = receive
        self._timeout = timeout
        self._begun = self._complete = False
        self._received = 0
        self._waited = 0.0

    async def receive(self) -> Message:
        """Return the next part; raises Overloaded and UploadTimedOut, which endpoints do not catch."""
        if self._complete:
            return await self._receive()
        if not self._begun:
            self._uploads.begin()
            self._begun = True
        message = await self._in_time()
        self._received += len(message.get("body", b""))
        if not message.get("more_body", False):
            self.end()
        return message

    async def _in_time(self) -> Message:
        timeout = min(self._timeout, self._timeout + self._received / _SLOWEST - self._waited)
        started = time.monotonic()
        try:
            with fail_after(max(0.0, timeout)):
                return await self._receive()
        except TimeoutError as exc:
            raise UploadTimedOut from exc
        finally:
            self._waited += time.monotonic() - started

    def end(self) -> None:
        """Stop counting the upload; can be called again."""
        if self._begun and not self._complete:
            self._uploads.end()
        self._complete = True
