from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_gpu import GB, LARGE, FakeDevice, manager_for
from faster_whisper import WhisperModel

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.inference.models.idle_policy import IdlePolicy
from whisper_server.inference.models.manager import ModelManager

CHILD = """
import sys
from pathlib import Path
from whisper_server.bootstrap import load_models
from whisper_server.inference.hardware.device import Device
from whisper_server.core.settings import Settings
lazy = load_models(Settings(model="tiny.en", device="cpu", offline=True, autotune=False, lazy_load=True))
before = Device("cpu").used_bytes()
with lazy.lease() as model:
    model.wait_for_background()
loaded = Device("cpu").used_bytes()
lazy.release()
print(lazy.weight_state, loaded - before, Device("cpu").used_bytes() - before)
lazy.close()
"""


class FakeTimer:
    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self.seconds = seconds
        self.action = action
        self.running = True

    def cancel(self) -> None:
        self.running = False


class FakeClock:
    """Timers that expire when the test advances the clock."""

    def __init__(self) -> None:
        self._timers: list[FakeTimer] = []

    def start_timer(self, seconds: float, action: Callable[[], None]) -> FakeTimer:
        self._timers.append(FakeTimer(seconds, action))
        return self._timers[-1]

    def advance(self, seconds: float) -> None:
        """Expire the running timers of up to so many seconds, the shortest first."""
        expired = [timer for timer in self._timers if timer.running and timer.seconds <= seconds]
        for timer in sorted(expired, key=lambda timer: timer.seconds):
            timer.cancel()
            timer.action()

    @property
    def pending(self) -> list[float]:
        return sorted(timer.seconds for timer in self._timers if timer.running)


@pytest.fixture
def gpu(real: WhisperModel) -> FakeDevice:
    return FakeDevice(real, LARGE, 6 * GB)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def manager(gpu: FakeDevice, clock: FakeClock, tmp_path: Path) -> ModelManager:
    return manager_of(gpu, clock, tmp_path)


def manager_of(gpu: FakeDevice, clock: FakeClock, tmp_path: Path) -> ModelManager:
    return manager_for(
        gpu, tmp_path, idle_policy=IdlePolicy(idle_unload=60, idle_release=600, start_timer=clock.start_timer)
    )


def use(manager: ModelManager, keep_alive: float | None = None) -> None:
    with manager.lease(keep_alive=keep_alive):
        assert manager.weight_state == "loaded"


def test_idle_weights_are_offloaded_then_released_and_loaded_by_the_next_request(
    manager: ModelManager, clock: FakeClock, gpu: FakeDevice
) -> None:
    manager.load("tiny.en")
    clock.advance(60)
    assert (manager.weight_state, gpu.own) == ("parked", LARGE.context)
    clock.advance(600)
    assert manager.weight_state == "released"
    use(manager)
    assert (manager.weight_state, clock.pending) == ("loaded", [60, 600])
    manager.close()
    assert clock.pending == []


def test_a_leased_model_is_not_idle(manager: ModelManager, clock: FakeClock) -> None:
    manager.load("tiny.en")
    with manager.lease():
        assert clock.pending == []
        clock.advance(1000)
        assert manager.weight_state == "loaded"
    manager.close()


@pytest.mark.parametrize(("keep_alive", "pending"), [(0, [0, 600]), (30, [30, 600]), (-1, []), (None, [60, 600])])
def test_a_request_may_set_how_long_the_weights_stay(
    manager: ModelManager, clock: FakeClock, keep_alive: float | None, pending: list[float]
) -> None:
    manager.load("tiny.en")
    use(manager, keep_alive)
    assert clock.pending == pending
    manager.close()


def test_on_a_cpu_weights_are_never_offloaded(real: WhisperModel, clock: FakeClock, tmp_path: Path) -> None:
    manager = manager_of(FakeDevice(real, LARGE, 100 * GB, kind="cpu"), clock, tmp_path)
    manager.load("tiny.en")
    assert clock.pending == [600]
    use(manager, 5)
    assert clock.pending == [5]
    clock.advance(5)
    assert manager.weight_state == "released"
    manager.close()


def test_the_first_request_loads_the_startup_model(manager: ModelManager, gpu: FakeDevice) -> None:
    manager.set_startup_model("tiny.en")
    assert (manager.weight_state, manager.loaded, gpu.opened) == ("released", [], [])
    assert str(manager) == "tiny.en (loaded by the first request)"
    manager.check("whisper-1")
    use(manager)
    assert gpu.opened == ["float16"]
    assert manager.release() is manager.current
    assert str(manager.weight_state) == "released"
    manager.preload()
    assert str(manager.weight_state) == "loaded"
    manager.close()


def test_weights_are_released_after_the_last_lease(manager: ModelManager) -> None:
    manager.load("tiny.en")
    with manager.lease():
        manager.release()
        assert str(manager.weight_state) == "loaded"
    assert str(manager.weight_state) == "released"
    manager.close()


def test_without_memory_for_both_a_reload_frees_the_old_model_first(manager: ModelManager, gpu: FakeDevice) -> None:
    old = manager.load("tiny.en")
    assert manager.reload("tiny.en") is not old
    assert (gpu.opened, manager.current.weights.placement.compute_type) == (["float16", "float16"], "float16")
    assert gpu.peak <= gpu.budget
    manager.close()


def test_the_old_model_is_restored_if_the_new_one_fails(manager: ModelManager, gpu: FakeDevice, tmp_path: Path) -> None:
    old = manager.load("tiny.en")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in ("model.bin", "config.json"):
        (damaged / file).write_text("{}")
    with pytest.raises(ModelLoadFailed):
        manager.reload("damaged")
    assert (manager.current, manager.weight_state, gpu.opened) == (old, "loaded", ["float16"])
    use(manager)
    manager.close()


def test_if_both_fit_the_old_model_stays_during_a_reload(real: WhisperModel, clock: FakeClock, tmp_path: Path) -> None:
    gpu = FakeDevice(real, LARGE, 24 * GB)
    manager = manager_of(gpu, clock, tmp_path)
    manager.load("tiny.en")
    with manager.lease() as old:
        new = manager.reload("tiny.en")
        assert (old.weights.state, new.weights.state) == ("loaded", "loaded")
    assert old.weights.state == "released"
    manager.close()


@pytest.mark.measure
def test_releasing_weights_frees_nearly_all_memory() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, check=True, text=True, timeout=300)
    state, loaded, released = child.stdout.split()
    assert (state, int(loaded) > 200_000_000) == ("released", True)
    assert int(released) < 60_000_000, released


def test_the_name_of_the_model_being_loaded_is_known(manager: ModelManager, gpu: FakeDevice) -> None:
    names: list[str] = []
    gpu.before_call = lambda: names.append(manager.loading)
    manager.load("tiny.en")
    assert (set(names), manager.loading) == ({"tiny.en"}, "")
    manager.close()
