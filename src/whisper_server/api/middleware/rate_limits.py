"""Limits of each API key: concurrent requests, and requests per period."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field

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
        self._rate = Unlimited() if rate == "none" else Rate(rate)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = None if scope["type"] == "lifespan" else scope.get("state", {}).get("key")
        if key is None:
            return await self._app(scope, receive, send)
        counted = await self._rate.count(key)
        send = with_headers(send, lambda: counted.headers)
        refusal = counted.refusal or self._over_concurrency(key)
        if refusal is not None:
            return await refuse(scope, receive, send, refusal)
        self._running[key] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[key] -= 1

    def _over_concurrency(self, key: str) -> TooManyRequests | None:
        if not 0 < self._concurrency <= self._running[key]:
            return None
        return TooManyRequests(f"{self._concurrency} requests of this key are being served already", _RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class RateResult:
    """The result of counting a request: headers for the client, and an error if the limit is reached."""

    headers: dict[str, str] = field(default_factory=dict)
    refusal: TooManyRequests | None = None


class Unlimited:
    async def count(self, key: str) -> RateResult:
        return RateResult()


class Rate(Unlimited):
    """A sliding window counter, whose memory does not grow with the rate."""

    def __init__(self, rate: str) -> None:
        self._text = rate
        self._item = parse(rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def count(self, key: str) -> RateResult:
        allowed = await self._limiter.hit(self._item, key)
        reset, remaining = await self._limiter.get_window_stats(self._item, key)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{seconds}s",
        }
        return RateResult(headers, None if allowed else TooManyRequests(f"this key may send {self._text}", seconds))
