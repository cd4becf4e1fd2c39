"""How many live sessions there may be, for how long, and their end when the server stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import Event, move_on_after

from whisper_server.core.errors import Overloaded, ServerStopping, TooManyRequests

_RETRY_AFTER = 5


class SessionLimits:
    """`idle` and `longest` are seconds: without a word of the client, and in all. `most_per_key` of 0 is no limit."""

    def __init__(self, *, most: int, most_per_key: int = 0, idle: float, longest: float) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self.idle = idle
        self.longest = longest
        self.stopping = Event()
        # By protocol: those that there are, and all that there were.
        self.current: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self._of_key: Counter[str | None] = Counter()
        self._empty = Event()

    @contextmanager
    def admit(self, protocol: str, key: str | None) -> Iterator[None]:
        """Keep a session's place for the block; raises Overloaded, TooManyRequests or ServerStopping."""
        self._check(key)
        self.opened[protocol] += 1
        self.current[protocol] += 1
        self._of_key[key] += 1
        try:
            yield
        finally:
            self.current[protocol] -= 1
            self._of_key[key] -= 1
            self._of_key += Counter()  # forgets keys without sessions
            if not self.current.total():
                self._empty.set()

    def _check(self, key: str | None) -> None:
        if self.stopping.is_set():
            raise ServerStopping
        if self.current.total() >= self._most:
            raise Overloaded(f"{self._most} live sessions are open already", _RETRY_AFTER)
        if key is not None and 0 < self._most_per_key <= self._of_key[key]:
            raise TooManyRequests(f"{self._most_per_key} live sessions of this key are open already", _RETRY_AFTER)

    async def drain(self, seconds: float) -> None:
        """Tell the sessions to end, and wait until they have, but no longer than this."""
        self._empty = Event()
        self.stopping.set()
        if self.current.total():
            with move_on_after(seconds):
                await self._empty.wait()
