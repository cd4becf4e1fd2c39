from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_card import GB, LARGE, FakeDevice, manager_for
from faster_whisper import WhisperModel

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.inference.models.idle_policy import IdlePolicy
from whisper_server.inference.models.manager import ModelManager

CHILD = """
import sys
from pathlib import Path
from whisper_server.app import load_models
from whisper_server.inference.hardware.device import Device
from whisper_server.core.settings import Settings
lazy = load_models(Settings(model="tiny.en", device="cpu", offline=True, autotune=False, lazy_load=True))
before = Device("cpu").used_bytes()
with lazy.lease() as model:
    model.wait_until_improved()
loaded = Device("cpu").used_bytes()
lazy.release()
print(lazy.weight_state, loaded - before, Device("cpu").used_bytes() - before)
lazy.close()
"""


class Clock:
    """Alarms that ring when the test says that so many seconds have passed."""

    def __init__(self) -> None:
        self._alarms: list[Ring] = []

    def start_timer(self, seconds: float, action: Callable[[], None]) -> Ring:
        self._alarms.append(Ring(seconds, action))
        return self._alarms[-1]

    def pass_by(self, seconds: float) -> None:
        ringing = sorted((a for a in self._alarms if a.set and a.seconds <= seconds), key=lambda a: a.seconds)
        for start_timer in ringing:
            start_timer.cancel()
            start_timer.action()

    @property
    def pending(self) -> list[float]:
        return sorted(start_timer.seconds for start_timer in self._alarms if start_timer.set)


class Ring:
    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self.seconds = seconds
        self.action = action
        self.set = True

    def cancel(self) -> None:
        self.set = False


@pytest.fixture
def card(real: WhisperModel) -> FakeDevice:
    return FakeDevice(real, LARGE, 6 * GB)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(card: FakeDevice, clock: Clock, tmp_path: Path) -> ModelManager:
    """tiny.en, which costs on the card what large-v3 does."""
    return manager_of(card, clock, tmp_path)


def manager_of(card: FakeDevice, clock: Clock, tmp_path: Path) -> ModelManager:
    return manager_for(
        card, tmp_path, idle_policy=IdlePolicy(idle_unload=60, idle_release=600, start_timer=clock.start_timer)
    )


def use(manager: ModelManager, keep_alive: float | None = None) -> None:
    with manager.lease(keep_alive=keep_alive):
        assert manager.weight_state == "loaded"


def test_idle_weights_go_to_ram_and_then_away_and_come_back(
    manager: ModelManager, clock: Clock, card: FakeDevice
) -> None:
    manager.load("tiny.en")
    clock.pass_by(60)
    assert (manager.weight_state, card.own) == ("parked", LARGE.context)
    clock.pass_by(600)
    assert manager.weight_state == "released"
    use(manager)
    assert (manager.weight_state, clock.pending) == ("loaded", [60, 600])
    manager.close()
    assert clock.pending == []


def test_who_works_is_not_idle(manager: ModelManager, clock: Clock) -> None:
    manager.load("tiny.en")
    with manager.lease():
        assert clock.pending == []
        clock.pass_by(1000)
        assert manager.weight_state == "loaded"
    manager.close()


@pytest.mark.parametrize(("keep_alive", "pending"), [(0, [0, 600]), (30, [30, 600]), (-1, []), (None, [60, 600])])
def test_a_request_may_say_how_long_the_model_stays(
    manager: ModelManager, clock: Clock, keep_alive: float | None, pending: list[float]
) -> None:
    manager.load("tiny.en")
    use(manager, keep_alive)
    assert clock.pending == pending
    manager.close()


def test_on_a_cpu_weights_are_never_parked(real: WhisperModel, clock: Clock, tmp_path: Path) -> None:
    manager = manager_of(FakeDevice(real, LARGE, 100 * GB, kind="cpu"), clock, tmp_path)
    manager.load("tiny.en")
    assert clock.pending == [600]
    use(manager, 5)
    assert clock.pending == [5]
    clock.pass_by(5)
    assert manager.weight_state == "released"
    manager.close()


def test_an_expected_model_comes_with_the_first_request(manager: ModelManager, card: FakeDevice) -> None:
    manager.expect("tiny.en")
    assert (manager.weight_state, manager.loaded, card.opened) == ("released", [], [])
    assert str(manager) == "tiny.en (which comes with the first request)"
    manager.check("whisper-1")
    use(manager)
    assert card.opened == ["float16"]
    assert manager.release() is manager.current
    assert manager.weight_state == "released"
    manager.wake()
    assert manager.weight_state == "loaded"
    manager.close()


def test_unloading_waits_for_the_last_lease(manager: ModelManager) -> None:
    manager.load("tiny.en")
    with manager.lease():
        manager.release()
        assert manager.weight_state == "loaded"
    assert manager.weight_state == "released"
    manager.close()


def test_without_room_for_both_the_old_model_steps_aside(manager: ModelManager, card: FakeDevice) -> None:
    old = manager.load("tiny.en")
    assert manager.reload("tiny.en") is not old
    assert (card.opened, manager.current.weights.placement.compute_type) == (["float16", "float16"], "float16")
    assert card.peak <= card.budget
    manager.close()


def test_the_old_model_comes_back_if_the_new_one_fails(manager: ModelManager, card: FakeDevice, tmp_path: Path) -> None:
    old = manager.load("tiny.en")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in ("model.bin", "config.json"):
        (damaged / file).write_text("{}")
    with pytest.raises(ModelLoadFailed):
        manager.reload("damaged")
    assert (manager.current, manager.weight_state, card.opened) == (old, "loaded", ["float16"])
    use(manager)
    manager.close()


def test_where_both_fit_the_new_model_is_loaded_beside(real: WhisperModel, clock: Clock, tmp_path: Path) -> None:
    card = FakeDevice(real, LARGE, 24 * GB)
    manager = manager_of(card, clock, tmp_path)
    manager.load("tiny.en")
    with manager.lease() as old:
        new = manager.reload("tiny.en")
        assert (old.weights.state, new.weights.state) == ("loaded", "loaded")
    assert old.weights.state == "released"
    manager.close()


def test_released_weights_leave_hardly_anything_behind() -> None:
    answer = subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, check=True, text=True, timeout=300)
    place, loaded, released = answer.stdout.split()
    assert (place, int(loaded) > 200_000_000) == ("released", True)
    assert int(released) < 60_000_000, released


def test_what_is_being_loaded_has_a_name(manager: ModelManager, card: FakeDevice) -> None:
    seen: list[str] = []
    card.tell = lambda: seen.append(manager.loading)
    manager.load("tiny.en")
    assert (set(seen), manager.loading) == ({"tiny.en"}, "")
    manager.close()
