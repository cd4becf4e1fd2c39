"""When the weights of an idle model are freed: first moved from the GPU to RAM, then released from RAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, Timer
from typing import Literal, Protocol, TypeAlias

IdleAction: TypeAlias = Literal["offload", "release"]


class IdleTimer(Protocol):
    def cancel(self) -> None: ...


def start_timer(seconds: float, action: Callable[[], None]) -> IdleTimer:
    """Run the action after so many seconds, in a daemon thread."""
    timer = Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


@dataclass(eq=False, kw_only=True)
class IdlePolicy:
    """Starts a model's timers when it becomes idle. `idle_unload` and `idle_release` are seconds; 0 means never."""

    idle_unload: float = 0.0
    idle_release: float = 0.0
    start_timer: Callable[[float, Callable[[], None]], IdleTimer] = start_timer
    _lock: Lock = field(default_factory=Lock, init=False)
    _timers: dict[int, list[IdleTimer]] = field(default_factory=dict, init=False)

    def schedule(
        self, key: int, action: Callable[[IdleAction], None], *, on_gpu: bool, keep_alive: float | None
    ) -> None:
        """Start the timers of an idle model; `action` is called from their threads.

        `keep_alive`, in seconds, overrides the settings; a negative one keeps the weights for ever.
        """
        self.cancel(key)
        delays = self._delays(on_gpu, keep_alive)
        with self._lock:
            self._timers[key] = [self.start_timer(delay, partial(action, name)) for name, delay in delays.items()]

    def cancel(self, key: int) -> None:
        """Stop the timers of a model that is in use again or closed."""
        with self._lock:
            timers = self._timers.pop(key, [])
        for timer in timers:
            timer.cancel()

    def close(self) -> None:
        for key in list(self._timers):
            self.cancel(key)

    def _delays(self, on_gpu: bool, keep_alive: float | None) -> dict[IdleAction, float]:
        """Return the seconds until each action. On a CPU there is nothing to offload."""
        delays: dict[IdleAction, float] = {}
        if keep_alive is None:
            if on_gpu and self.idle_unload:
                delays["offload"] = self.idle_unload
            if self.idle_release:
                delays["release"] = self.idle_release
        elif keep_alive >= 0:
            delays["offload" if on_gpu else "release"] = keep_alive
            if on_gpu and self.idle_release:
                delays["release"] = max(keep_alive, self.idle_release)
        return delays
