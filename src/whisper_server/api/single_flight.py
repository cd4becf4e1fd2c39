"""Requests whose work survives a disconnect for a short time, so that the client's retry joins it.

OpenAI's clients disconnect before they retry. The work of such a client continues for a grace period after it has
disconnected, and its result or error is kept as long. The work of other clients ends with their connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, BinaryIO, Generic, TypeVar

from anyio import CancelScope, Event, sleep
from anyio.abc import TaskGroup
from starlette.requests import Request

from whisper_server.api.requests.body import upload_digest
from whisper_server.core.errors import Cancelled

T = TypeVar("T")

_GRACE_SECONDS = 10.0
_MAX_IN_FLIGHT = 256
_RETRY_HEADER = "x-stainless-retry-count"


def may_retry(request: Request[Any]) -> bool:
    return _RETRY_HEADER in request.headers


def is_retry(request: Request[Any]) -> bool:
    return request.headers.get(_RETRY_HEADER, "0") != "0"


def fingerprint(request: Request[Any], file: BinaryIO, options: Any) -> str:
    """Return a hash of the caller, the path, the options and the file, which a request shares with its retries only.

    Reads the file and rewinds it.
    """
    caller = request.headers.get("authorization")
    return sha256(repr((caller, request.url.path, options, upload_digest(file))).encode()).hexdigest()


class InFlightRequest(Generic[T]):
    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self.scope = CancelScope()
        self._done = Event()
        self._result: T | None = None
        self._error: Exception | None = Cancelled("the request was cancelled")
        self.waiting = 0
        self.departures = 0

    async def run(self) -> None:
        try:
            with self.scope:
                self._result = await self._work()
                self._error = None
        except Exception as exc:  # result() raises it in every waiting request
            self._error = exc
        finally:
            self._done.set()

    async def result(self) -> T:
        """Wait for the work, and return its result or raise its error."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class SingleFlight:
    """Runs work in the task group, which must be cancelled when the server stops."""

    def __init__(self, group: TaskGroup, *, grace: float = _GRACE_SECONDS) -> None:
        self._group = group
        self._grace = grace
        self._in_flight: dict[str, InFlightRequest[Any]] = {}

    def find(self, key: str) -> InFlightRequest[Any] | None:
        return self._in_flight.get(key)

    def start(self, key: str, work: Callable[[], Awaitable[T]]) -> InFlightRequest[T]:
        """Start the work; find() returns it until the grace period is over or the key is used again."""
        request = InFlightRequest(work)
        self._in_flight.pop(key, None)
        self._in_flight[key] = request
        if len(self._in_flight) > _MAX_IN_FLIGHT:
            del self._in_flight[next(iter(self._in_flight))]
        self._group.start_soon(request.run)
        return request

    async def wait(self, key: str, request: InFlightRequest[T]) -> T:
        """Return the result of the work or raise its error.

        The work is cancelled once nobody has waited for it during the grace period.
        """
        request.waiting += 1
        try:
            return await request.result()
        finally:
            request.waiting -= 1
            request.departures += 1
            self._group.start_soon(self._end_after_grace, key, request, request.departures)

    async def _end_after_grace(self, key: str, request: InFlightRequest[Any], departures: int) -> None:
        await sleep(self._grace)
        if request.waiting or request.departures != departures:
            return
        request.scope.cancel()
        if self._in_flight.get(key) is request:
            del self._in_flight[key]
