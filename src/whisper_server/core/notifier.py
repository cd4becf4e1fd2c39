"""A condition variable for tasks of the event loop."""

from __future__ import annotations

from anyio import Event


class Notifier:
    """Wakes waiting tasks, again and again.

    Take `next` before checking the condition, then wait for it: a notification in between is not lost.
    """

    def __init__(self) -> None:
        self._next = Event()

    @property
    def next(self) -> Event:
        """The event that the next `notify()` sets."""
        return self._next

    def notify(self) -> None:
        """Wake every task that waits for `next`."""
        event, self._next = self._next, Event()
        event.set()
