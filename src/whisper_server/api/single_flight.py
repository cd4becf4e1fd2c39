"""Work that outlives its connection for a short while, so that a client that asks again joins it.

OpenAI's clients hang up before they retry. The work of such a client goes on for a grace after it has left, and what
has come out of it, answer or error, is kept as long. Other clients do not come back, and their work ends at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, Generic, TypeVar

from anyio import CancelScope, Event, sleep
from anyio.abc import TaskGroup
from starlette.requests import Request

from whisper_server.core.errors import Cancelled

T = TypeVar("T")

GRACE_SECONDS = 10.0
_BLOCK = 1 << 20
_MOST = 256
_HEADER = "x-stainless-retry-count"


def may_retry(request: Request[Any]) -> bool:
    return _HEADER in request.headers


def is_retry(request: Request[Any]) -> bool:
    return request.headers.get(_HEADER, "0") != "0"


def fingerprint(request: Request[Any], file: BinaryIO, asked: Any) -> str:
    """Return what is the same for a request and its retries only: who asks for what, of which file. Reads the file."""
    digest = hashlib.sha256(repr((request.headers.get("authorization"), request.url.path, asked)).encode())
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


class InFlightRequest(Generic[T]):
    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._scope = CancelScope()
        self._done = Event()
        self._result: T | None = None
        self._error: Exception | None = Cancelled("the request was cancelled")
        self.waiting = 0
        self.departures = 0

    async def run(self) -> None:
        try:
            with self._scope:
                self._result = await self._work()
                self._error = None
        except Exception as exc:  # for those who wait
            self._error = exc
        finally:
            self._done.set()

    async def outcome(self) -> T:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def cancel(self) -> None:
        self._scope.cancel()


class SingleFlight:
    """Runs work in the group, which is to be cancelled when the server stops."""

    def __init__(self, group: TaskGroup, *, grace: float = GRACE_SECONDS) -> None:
        self._group = group
        self._grace = grace
        self._works: dict[str, InFlightRequest[Any]] = {}

    def find(self, key: str) -> InFlightRequest[Any] | None:
        return self._works.get(key)

    def start(self, key: str, work: Callable[[], Awaitable[T]]) -> InFlightRequest[T]:
        """Begin work that can be found under the key; a later one of the same key takes its place there."""
        shared = InFlightRequest(work)
        self._works.pop(key, None)
        self._works[key] = shared
        if len(self._works) > _MOST:
            del self._works[next(iter(self._works))]
        self._group.start_soon(shared.run)
        return shared

    async def wait(self, key: str, shared: InFlightRequest[T]) -> T:
        """Return or raise what comes out of the work. It ends if nobody has waited for it during the grace."""
        shared.waiting += 1
        try:
            return await shared.outcome()
        finally:
            shared.waiting -= 1
            shared.departures += 1
            self._group.start_soon(self._end_after_grace, key, shared, shared.departures)

    async def _end_after_grace(self, key: str, shared: InFlightRequest[Any], departures: int) -> None:
        await sleep(self._grace)
        if shared.waiting or shared.departures != departures:
            return
        shared.cancel()
        if self._works.get(key) is shared:
            del self._works[key]
