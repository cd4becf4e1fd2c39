"""A condition variable for tasks of the event loop."""

from __future__ import annotations

from anyio import Event


class Notifier:
    """Wakes waiting tasks, again and again.

    `next` is the event that the next `notify()` sets. Take it before checking the condition, then wait for it: a
    notification in between is not lost.
    """

    def __init__(self) -> None:
        self.next = Event()

    def notify(self) -> None:
        """Wake every task that waits for `next`."""
        event, self.next = self.next, Event()
        event.set()
