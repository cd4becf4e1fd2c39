"""Events on their way to the one who reads them. Whoever reads slowly misses only what was not certain."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from anyio import Event as Signal

from whisper_server.core.errors import WhisperServerError
from whisper_server.live.events import Ended, Event, Update

_FULL = 256


class CoalescingEventQueue:
    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._changed = Signal()
        self._taken = Signal()
        self._error: WhisperServerError | None = None
        self._closed = False

    def put(self, event: Event) -> None:
        """Updates that wait become one."""
        last = self._events[-1] if self._events else None
        if isinstance(event, Update) and isinstance(last, Update) and event.utterance == last.utterance:
            self._events[-1] = replace(event, confirmed=last.confirmed + event.confirmed)
        else:
            self._events.append(event)
        self._ring()

    def fail(self, error: WhisperServerError) -> None:
        """After what waits the reader gets the error."""
        self._error = error
        self._ring()

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nobody will read or write any more."""
        self._closed = True
        self._ring()
        self._taken.set()

    async def has_room(self) -> None:
        """Wait while too much is unread."""
        while len(self._events) >= _FULL and not self._closed:
            await self._taken.wait()

    async def read(self) -> AsyncIterator[Event]:
        """For one reader; ends after Ended, or when the session was left. Raises the error, if there was one."""
        while True:
            while self._events and not self._closed:
                event = self._events.popleft()
                self._taken.set()
                self._taken = Signal()
                yield event
                if isinstance(event, Ended):
                    return
            self.check()
            if self._closed:
                return
            await self._changed.wait()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = Signal()
