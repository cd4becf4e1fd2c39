"""What a request holds while it works: how urgent it is, and whether anybody still wants it."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from enum import IntEnum
from threading import Lock
from typing import Any, TypeVar

from whisper_server.core.errors import Cancelled

T = TypeVar("T")

# How much longer than the next more urgent kind of work a kind may wait. As everything that waits gets older at the
# same pace, work of any kind is the oldest some day, so nothing starves.
AGEING_SECONDS = 10.0


class Priority(IntEnum):
    LIVE = 0
    INTERACTIVE = 1
    BACKGROUND = 2


class RequestContext:
    """Belongs to one request. Its threads wait through it; any other thread may cancel it.

    `root` is the ticket of the whole request.
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
        self._cancelled = False
        self.due = 0.0
        self.renew()

    def child(self, *, delay: float) -> RequestContext:
        """Return a ticket for a part of the request, which is cancelled with it and due later by the delay."""
        made = RequestContext(self._priority, delay=delay, root=self.root)
        with self._lock:
            self._children.append(made)
            made._cancelled = self._cancelled
        return made

    def renew(self) -> None:
        """Queue up again at the end, as each window of a file does: no file keeps others waiting for longer."""
        self.due = time.monotonic() + self._priority * AGEING_SECONDS + self._delay

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Stop what waits at once and what runs at its next check."""
        with self._lock:
            self._cancelled = True
            pending, children = self._pending, list(self._children)
        if pending is not None:
            pending.cancel()
        for child in children:
            child.cancel()

    def check(self) -> None:
        if self._cancelled:
            raise Cancelled("the request was cancelled")

    def wait(self, future: Future[T]) -> T:
        """Return the future's result; raises Cancelled as soon as nobody wants it and nobody works on it."""
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
