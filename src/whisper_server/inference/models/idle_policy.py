"""When the weights of a model that nobody uses leave: first from the card to RAM, then from there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock, Timer
from typing import Literal, Protocol, TypeAlias

IdleAction: TypeAlias = Literal["park", "release"]


class IdleTimer(Protocol):
    def cancel(self) -> None: ...


def start_timer(seconds: float, action: Callable[[], None]) -> IdleTimer:
    """Do it after so many seconds, in a thread that sleeps until then."""
    timer = Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


class IdlePolicy:
    """`idle_unload` and `idle_release` are seconds; 0 is never. `leave` is told what to do with whom, from a thread."""

    def __init__(
        self,
        *,
        idle_unload: float = 0.0,
        idle_release: float = 0.0,
        start_timer: Callable[[float, Callable[[], None]], IdleTimer] = start_timer,
    ) -> None:
        self._idle_unload = idle_unload
        self._idle_release = idle_release
        self._alarm = start_timer
        self._lock = Lock()
        self._set: dict[int, list[IdleTimer]] = {}

    def rest(self, who: int, leave: Callable[[IdleAction], None], *, on_card: bool, keep_alive: float | None) -> None:
        """Nobody uses it from now on. `keep_alive` in seconds stands for the settings; below 0 it is for ever."""
        self.wake(who)
        steps = self._steps(on_card, keep_alive)
        with self._lock:
            self._set[who] = [self._alarm(seconds, partial(leave, step)) for step, seconds in steps.items()]

    def wake(self, who: int) -> None:
        """Somebody uses it, or it is gone."""
        with self._lock:
            alarms = self._set.pop(who, [])
        for start_timer in alarms:
            start_timer.cancel()

    def close(self) -> None:
        for who in list(self._set):
            self.wake(who)

    def _steps(self, on_card: bool, keep_alive: float | None) -> dict[IdleAction, float]:
        """What happens after how many seconds. On a CPU the weights are in RAM anyway."""
        steps: dict[IdleAction, float] = {}
        if keep_alive is None:
            if on_card and self._idle_unload:
                steps["park"] = self._idle_unload
            if self._idle_release:
                steps["release"] = self._idle_release
        elif keep_alive >= 0:
            steps["park" if on_card else "release"] = keep_alive
            if on_card and self._idle_release:
                steps["release"] = max(keep_alive, self._idle_release)
        return steps
