"""Limits of each API key: concurrent requests, and requests per period."""

from __future__ import annotations

import math
import time
from collections import Counter

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import refuse
from whisper_server.api.middleware.headers import with_headers
from whisper_server.core.errors import TooManyRequests

_RETRY_AFTER = 1


class RateLimitMiddleware:
    """Refuses requests over the limits. `concurrency` 0 and `rate` "none" are no limit; a rate is like 60/minute."""

    def __init__(self, app: ASGIApp, *, concurrency: int, rate: str) -> None:
        self._app = app
        self._concurrency = concurrency
        self._rate_limit = None if rate == "none" else RateLimit(rate)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = None if scope["type"] == "lifespan" else scope.get("state", {}).get("key")
        if key is None:
            return await self._app(scope, receive, send)
        refusal = None
        if self._rate_limit is not None:
            headers, refusal = await self._rate_limit.count(key)
            send = with_headers(send, lambda: headers)
        if refusal is None and 0 < self._concurrency <= self._running[key]:
            refusal = TooManyRequests(f"this key already has {self._concurrency} requests in progress", _RETRY_AFTER)
        if refusal is not None:
            return await refuse(scope, receive, send, refusal)
        self._running[key] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[key] -= 1


class RateLimit:
    """A sliding window counter, whose memory does not grow with the rate."""

    def __init__(self, rate: str) -> None:
        self._text = rate
        self._item = parse(rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def count(self, key: str) -> tuple[dict[str, str], TooManyRequests | None]:
        """Count a request; returns headers for the client, and an error if the key is over the limit."""
        allowed = await self._limiter.hit(self._item, key)
        reset, remaining = await self._limiter.get_window_stats(self._item, key)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{seconds}s",
        }
        return headers, None if allowed else TooManyRequests(f"the limit of this key is {self._text}", seconds)
