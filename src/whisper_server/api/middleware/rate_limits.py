"""How much one key may ask for: so many requests at a time, and so many in a time."""

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
    """Refuses what is too much. No limit is a `concurrency` of 0, and a rate of `none` instead of, say, 60/minute."""

    def __init__(self, app: ASGIApp, *, concurrency: int, rate: str) -> None:
        self._app = app
        self._concurrency = concurrency
        self._rate = Unlimited() if rate == "none" else Rate(rate)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = None if scope["type"] == "lifespan" else scope.get("state", {}).get("key")
        if key is None:
            return await self._app(scope, receive, send)
        spent = await self._rate.spend(key)
        send = with_headers(send, lambda: spent.headers)
        refusal = spent.refusal or self._one_too_many(key)
        if refusal is not None:
            return await refuse(scope, receive, send, refusal)
        self._running[key] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[key] -= 1

    def _one_too_many(self, key: str) -> TooManyRequests | None:
        if not 0 < self._concurrency <= self._running[key]:
            return None
        return TooManyRequests(f"{self._concurrency} requests of this key are being served already", _RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Spent:
    """What became of a request's share: headers that tell the client, and a refusal if there was none left."""

    headers: dict[str, str] = field(default_factory=dict)
    refusal: TooManyRequests | None = None


class Unlimited:
    async def spend(self, key: str) -> Spent:
        return Spent()


class Rate(Unlimited):
    """Counts in two windows, the current one and the fading one before, so memory does not grow with the rate."""

    def __init__(self, rate: str) -> None:
        self._text = rate
        self._item = parse(rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def spend(self, key: str) -> Spent:
        allowed = await self._limiter.hit(self._item, key)
        reset, remaining = await self._limiter.get_window_stats(self._item, key)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{seconds}s",
        }
        return Spent(headers, None if allowed else TooManyRequests(f"this key may send {self._text}", seconds))
