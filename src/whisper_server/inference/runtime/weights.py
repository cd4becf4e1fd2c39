"""A model's weights: loaded at the best placement with enough memory, offloaded to RAM, or released.

Callers hold the weights while they use them, and a change waits until nobody holds them: CTranslate2's
`unload_model()` silently does nothing while the model is running.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Literal, TypeAlias

import ctranslate2
from faster_whisper import WhisperModel

from whisper_server.core.errors import OutOfMemory
from whisper_server.inference.hardware.device import Hardware
from whisper_server.inference.hardware.worker_plan import WorkerPlan
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff, is_out_of_memory

logger = logging.getLogger(__name__)

# "parked" is "offloaded to RAM"; the API and the metrics have these values, so they stay.
WeightState: TypeAlias = Literal["loaded", "parked", "released", "loading"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a compute type, with sizes in bytes (0: unknown).

    `needed` is what batches of one window take there, without the CUDA context, which the process has already. It
    includes the `weights`. `window` is what each further window of a batch takes.
    """

    device: Hardware
    compute_type: str
    needed: int = 0
    weights: int = 0
    window: int = 0

    def __str__(self) -> str:
        return f"{self.device}, {self.compute_type}"

    def has_room(self, *, replacing: Placement | None = None) -> bool:
        """Whether the model fits into the free memory, and into what `replacing` takes there; False if unknown."""
        memory = self.device.memory()
        returned = replacing.weights if replacing is not None and replacing.device is self.device else 0
        return memory is not None and memory.free + returned >= self.needed

    def has_room_for(self, windows: int) -> bool:
        """Whether so many more windows fit beside the loaded model; True if the free memory is unknown."""
        memory = self.device.memory()
        return memory is None or memory.free >= windows * self.window


class Weights:
    """Weights with a fallback chain of `placements`, the best first. Thread-safe.

    `whisper` is faster-whisper's model of them, and `low_latency_model` a second copy for single requests, or None.
    `compute_type` is CTranslate2's effective type, which it reports only while the weights are loaded.
    """

    def __init__(
        self, directory: Path, placements: Sequence[Placement], workers: WorkerPlan, backoff: MemoryBackoff
    ) -> None:
        """Load them; raises OutOfMemory if no placement has room, and what CTranslate2 raises for invalid files."""
        self.directory = directory
        self._placements = placements
        self._workers = workers
        self._backoff = backoff
        self._usage_changed = Condition()
        self._users = 0
        self._locked = False
        self._transition = Lock()
        self._index = 0
        self.low_latency_model: ctranslate2.models.Whisper | None = None
        self.state: WeightState = "released"
        self.compute_type = ""
        self.whisper = self._open_first_that_fits(0)

    @property
    def model(self) -> ctranslate2.models.Whisper:
        return self.whisper.model

    @property
    def placement(self) -> Placement:
        return self._placements[self._index]

    @contextmanager
    def using(self, *, low_latency: bool = False) -> Iterator[ctranslate2.models.Whisper]:
        """Yield the model, loading its weights if necessary, and hold them meanwhile; raises OutOfMemory.

        With `low_latency`, yields the low-latency copy if there is one.
        """
        while not self._hold_if_loaded():
            self.resume()
        try:
            yield self.low_latency_model if low_latency and self.low_latency_model is not None else self.model
        finally:
            with self._usage_changed:
                self._users -= 1
                self._usage_changed.notify_all()

    def fall_back(self, failed: Placement) -> bool:
        """Give memory back after `failed` has run out of it; returns whether the model can still be used.

        The low-latency copy is unloaded first, then the next placement with room is loaded; if another thread has left
        `failed` already, nothing changes. Without room anywhere the weights are released, and the next use tries all
        placements again.
        """
        with self._transition, self._exclusive_access():
            if self.placement is not failed:
                return True
            if self.low_latency_model is not None:
                self._unload_low_latency_model()
                self._backoff.record_fallback("copy", "the low-latency copy of the weights is unloaded")
                return True
            try:
                self._reopen(self._index + 1)
            except OutOfMemory:
                return False
            return True

    def upgrade(self) -> bool:
        """Move to the best placement with room, if that is better than this one; returns whether it moved.

        If both fit, the present one is used until the better one is loaded.
        """
        if self._index == 0 or not self._transition.acquire(blocking=False):
            return False
        try:
            before = self.placement
            better = next((i for i in range(self._index) if self._placements[i].has_room(replacing=before)), None)
            if better is None or self.state != "loaded":
                return False
            if self._placements[better].has_room():
                self._upgrade_beside(better)
            else:
                with self._exclusive_access():
                    self._reopen(better)
        except Exception as exc:
            if not is_out_of_memory(exc) and not isinstance(exc, OutOfMemory):
                raise
            logger.info("an upgrade failed, as the memory is in use again: %s", exc)
        finally:
            self._transition.release()
        if self.placement is not before:
            self._backoff.record_upgrade(str(self.placement))
        return self.placement is not before

    def offload(self) -> bool:
        """Move weights from a GPU to RAM; returns False if that is impossible, as on a CPU and for released ones."""
        with self._transition, self._exclusive_access():
            if self.state != "loaded":
                return self.state == "parked"
            self._unload_low_latency_model()
            self.model.unload_model(to_cpu=True)
            if self.model.model_is_loaded:  # it is on a CPU
                return False
            self.state = "parked"
            return True

    def resume(self) -> None:
        """Load offloaded or released weights again; raises OutOfMemory."""
        with self._transition, self._exclusive_access():
            if self.state == "loaded":
                return
            before, self.state = self.state, "loading"
            try:
                if before == "parked":
                    self._load_from_ram()
                else:
                    self._reopen(0)
            finally:
                if self.state == "loading":
                    self.state = "released"

    def release(self) -> None:
        """Free the memory now, not with the last reference."""
        with self._transition, self._exclusive_access():
            self._unload_low_latency_model()
            self.model.unload_model()
            self._index, self.state = 0, "released"

    def load_low_latency_model(self) -> None:
        """Load the low-latency copy if the worker plan has one; a failure is logged, as the model works without it."""
        with self._transition:
            threads = self._workers.low_latency_threads
            if not threads or self.state != "loaded" or self.low_latency_model is not None:
                return
            try:
                self.low_latency_model = self._open(self.placement, workers=1, threads=threads).model
            except Exception:
                logger.exception("the low-latency copy cannot be loaded; the workers serve single requests too")

    def _hold_if_loaded(self) -> bool:
        with self._usage_changed:
            self._usage_changed.wait_for(lambda: not self._locked)
            loaded = self.state == "loaded"
            self._users += loaded
            return loaded

    @contextmanager
    def _exclusive_access(self) -> Iterator[None]:
        """Keep new users out and wait until nobody holds the weights."""
        with self._usage_changed:
            self._usage_changed.wait_for(lambda: not self._locked)
            self._locked = True
            self._usage_changed.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._usage_changed:
                self._locked = False
                self._usage_changed.notify_all()

    def _upgrade_beside(self, index: int) -> None:
        model = self._open(self._placements[index]).model
        with self._exclusive_access():
            old, self.whisper.model, self._index = self.model, model, index
            self.compute_type = str(model.compute_type)
            old.unload_model()

    def _load_from_ram(self) -> None:
        try:
            self.model.load_model()
            self.state = "loaded"
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            logger.warning("the weights do not fit on %s any more: %s", self.placement, exc)
            self._reopen(self._index + 1)

    def _reopen(self, index: int) -> None:
        """Replace the model by the first that fits from this placement on; releases it and raises OutOfMemory."""
        self.model.unload_model()
        try:
            self.whisper.model = self._open_first_that_fits(index).model
        except OutOfMemory:
            self._index, self.state = 0, "released"
            raise

    def _open_first_that_fits(self, start: int) -> WhisperModel:
        """Open the model at the first placement from this index on that has room; raises OutOfMemory."""
        for index, placement in list(enumerate(self._placements))[start:]:
            try:
                whisper = self._open(placement)
            except Exception as exc:
                if not is_out_of_memory(exc):
                    raise
                logger.warning("the weights do not fit on %s: %s", placement, exc)
                continue
            if index > self._index:
                step = "cpu" if placement.device.kind == "cpu" else "compute_type"
                self._backoff.record_fallback(step, f"the model is on {placement} from now on")
            self._index, self.state = index, "loaded"
            self.compute_type = str(whisper.model.compute_type)
            return whisper
        raise OutOfMemory

    def _open(self, placement: Placement, *, workers: int = 0, threads: int = 0) -> WhisperModel:
        workers, threads = workers or self._workers.count, threads or self._workers.threads
        return placement.device.open(self.directory, placement.compute_type, workers=workers, threads=threads)

    def _unload_low_latency_model(self) -> None:
        low_latency_model, self.low_latency_model = self.low_latency_model, None
        if low_latency_model is not None:
            low_latency_model.unload_model()
