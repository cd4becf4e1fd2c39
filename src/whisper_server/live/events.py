"""The events of a live session, independent of any protocol, and their queue.

Times are seconds since the session's first sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from whisper_server.core.errors import WhisperServerError
from whisper_server.core.notifier import Notifier
from whisper_server.inference.transcription.segments import Word

# Unread events after which the session takes no more audio; a reader that keeps up has none or one.
_MAX_UNREAD = 256


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`time` is where the utterance starts, a little before the speech is detected."""

    time: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """`time` is where the speech ended; the utterance's Final follows."""

    time: float


@dataclass(frozen=True, slots=True)
class Update:
    """`confirmed` are the words confirmed since the last update, which never change; `pending` words may change.

    `audio` is the end of the audio that was decoded, and `language` that of the last window.
    """

    utterance: int
    confirmed: tuple[Word, ...]
    pending: tuple[Word, ...]
    audio: float
    language: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """`words` are all words of the utterance: those that its updates confirmed, and the last ones.

    Every flush results in exactly one Final that is `flushed`, with or without words.
    """

    utterance: int
    words: tuple[Word, ...]
    start: float
    end: float
    audio: float
    language: str
    flushed: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """The server has this much audio that it has not decoded."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event."""

    audio: float


Event: TypeAlias = SpeechStarted | SpeechStopped | Update | Final | Lag | Ended


class CoalescingEventQueue:
    """A queue for one reader that merges unread updates of an utterance: a slow reader misses pending words only."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._changed = Notifier()
        self._taken = Notifier()
        self._error: WhisperServerError | None = None
        self._closed = False

    @property
    def finished(self) -> bool:
        """Whether the session has failed or was left."""
        return self._closed or self._error is not None

    def put(self, event: Event) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(event, Update) and isinstance(last, Update) and event.utterance == last.utterance:
            self._events[-1] = replace(event, confirmed=last.confirmed + event.confirmed)
        else:
            self._events.append(event)
        self._changed.notify()

    def fail(self, error: WhisperServerError) -> None:
        """Raise the error in the reader after the events that are queued."""
        self._error = error
        self._changed.notify()

    def raise_error(self) -> None:
        """Raise the error that the session failed with, if it has."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End reading and waiting; what is queued is dropped."""
        self._closed = True
        self._changed.notify()
        self._taken.notify()

    async def wait_for_room(self) -> None:
        while len(self._events) >= _MAX_UNREAD and not self._closed:
            await self._taken.next.wait()

    async def read(self) -> AsyncIterator[Event]:
        """Yield events until Ended or `close()`; raises the error of `fail()`."""
        while True:
            while self._events and not self._closed:
                event = self._events.popleft()
                self._taken.notify()
                yield event
                if isinstance(event, Ended):
                    return
            self.raise_error()
            if self._closed:
                return
            await self._changed.next.wait()
