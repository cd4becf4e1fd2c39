"""Limits on the number and duration of live sessions, and their end when the server stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import Event, move_on_after

from whisper_server.core.errors import Overloaded, ServerStopping, TooManyRequests
from whisper_server.core.notifier import Notifier

# Seconds; sent as Retry-After. A session may end at any moment.
_RETRY_AFTER = 5


class SessionLimits:
    """Counts the sessions of the server and of each API key; a `max_sessions_per_key` of 0 is no limit.

    `idle_timeout` is how many seconds a client may send nothing, `max_seconds` how long a session may last.
    """

    def __init__(
        self, *, max_sessions: int, max_sessions_per_key: int = 0, idle_timeout: float, max_seconds: float
    ) -> None:
        self._max_sessions = max_sessions
        self._max_sessions_per_key = max_sessions_per_key
        self.idle_timeout = idle_timeout
        self.max_seconds = max_seconds
        self.stopping = Event()
        # By protocol: the sessions that are open, and all that were ever opened.
        self.current: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self._current_by_key: Counter[str | None] = Counter()
        self._all_closed = Notifier()

    @contextmanager
    def admit(self, protocol: str, key: str | None) -> Iterator[None]:
        """Count a session for the duration of the block; raises Overloaded, TooManyRequests or ServerStopping."""
        self._check(key)
        self.opened[protocol] += 1
        self.current[protocol] += 1
        self._current_by_key[key] += 1
        try:
            yield
        finally:
            self.current[protocol] -= 1
            self._current_by_key[key] -= 1
            self._current_by_key += Counter()  # drops keys without sessions
            if not self.current.total():
                self._all_closed.notify()

    def _check(self, key: str | None) -> None:
        if self.stopping.is_set():
            raise ServerStopping
        if self.current.total() >= self._max_sessions:
            raise Overloaded(f"the server has its maximum of {self._max_sessions} live sessions", _RETRY_AFTER)
        if key is not None and 0 < self._max_sessions_per_key <= self._current_by_key[key]:
            limit = self._max_sessions_per_key
            raise TooManyRequests(f"this key has its maximum of {limit} live sessions", _RETRY_AFTER)

    async def drain(self, timeout: float) -> None:
        """Ask the sessions to end and wait until they have, for at most `timeout` seconds."""
        self.stopping.set()
        if self.current.total():
            with move_on_after(timeout):
                await self._all_closed.next.wait()
