"""What belongs to a request while it runs: its priority, and whether it has been cancelled."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from enum import IntEnum
from threading import Lock
from typing import Any, TypeVar

from whisper_server.core.errors import Cancelled

T = TypeVar("T")

# How many seconds later work is due than work of the next higher priority that is queued at the same time. Due times
# are fixed, so old work of any priority becomes the first in time and nothing starves. Not tuned.
AGEING_SECONDS = 10.0


class Priority(IntEnum):
    """From the highest to the lowest."""

    LIVE = 0
    INTERACTIVE = 1
    BACKGROUND = 2


class RequestContext:
    """Belongs to one request. The request's threads wait through it, and any thread may cancel it.

    `root` is the context of the whole request. The context with the lowest `due`, in seconds of the monotonic clock, is
    served first.
    """

    def __init__(
        self, priority: Priority = Priority.INTERACTIVE, *, delay: float = 0.0, root: RequestContext | None = None
    ) -> None:
        self.root = root or self
        self._priority = priority
        self._delay = delay
        self._lock = Lock()
        self._pending: Future[Any] | None = None
        self._children: list[RequestContext] = []
        self.cancelled = False
        self.due = 0.0
        self.renew()

    def child(self, *, delay: float) -> RequestContext:
        """Return a context for a part of the request: due `delay` seconds later, and cancelled with this one."""
        child = RequestContext(self._priority, delay=delay, root=self.root)
        with self._lock:
            self._children.append(child)
            child.cancelled = self.cancelled
        return child

    def renew(self) -> None:
        """Move to the end of the queue. Each window of a file does so, so that a long file does not delay others."""
        self.due = time.monotonic() + self._priority * AGEING_SECONDS + self._delay

    def cancel(self) -> None:
        """Cancel waiting work at once, and running work at its next `check()`."""
        with self._lock:
            self.cancelled = True
            pending, children = self._pending, list(self._children)
        if pending is not None:
            pending.cancel()
        for child in children:
            child.cancel()

    def check(self) -> None:
        """Raise Cancelled after `cancel()`."""
        if self.cancelled:
            raise Cancelled("the request was cancelled")

    def wait(self, future: Future[T]) -> T:
        """Return the future's result; raises Cancelled if the request is cancelled before the future runs."""
        with self._lock:
            self._pending = future
        try:
            self.check()
            return future.result()
        except CancelledError as exc:
            raise Cancelled("the request was cancelled") from exc
        finally:
            future.cancel()
            self._pending = None
