"""A model's weights: on the best rung of a ladder that has room for them, parked in RAM, or nowhere.

Whoever runs them holds them meanwhile, and whoever moves them waits until nobody does: CTranslate2's `unload_model()`
silently does nothing to a model that works.
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

WeightState: TypeAlias = Literal["loaded", "parked", "released", "loading"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a type, with the bytes to work there where others have worked before.

    Of the `needed` ones, so many are the weights; a further window in a batch takes `window` ones.
    """

    device: Hardware
    compute_type: str
    needed: int = 0
    weights: int = 0
    window: int = 0

    def __str__(self) -> str:
        return f"{self.device}, {self.compute_type}"

    def has_room(self, *, after: Placement | None = None) -> bool:
        """Whether the model fits beside all that is there, or after what works on another rung has gone."""
        memory = self.device.memory()
        returned = after.weights if after is not None and after.device is self.device else 0
        return memory is not None and memory.free + returned >= self.needed

    def has_room_for(self, windows: int) -> bool:
        """Whether the model that works here may take so many windows more; where nobody knows, it may try."""
        memory = self.device.memory()
        return memory is None or memory.free >= windows * self.window


class Weights:
    """`rungs` are from the best to the last resort; `lone` is a copy for whoever is alone, or None.

    `compute_type` is what CTranslate2 made of the rung's, which it can say only while they are loaded.
    """

    def __init__(
        self, directory: Path, placements: Sequence[Placement], workers: WorkerPlan, backoff: MemoryBackoff
    ) -> None:
        """Load them; raises OutOfMemory if no rung has room, or what CTranslate2 raises for files that do not work."""
        self._directory = directory
        self._placements = placements
        self._workers = workers
        self._backoff = backoff
        self._gate = Condition()
        self._users = 0
        self._held = False
        self._moves = Lock()
        self._at = 0
        self.low_latency_model: ctranslate2.models.Whisper | None = None
        self.state: WeightState = "released"
        self.compute_type = ""
        self.whisper = self._opened(0)

    @property
    def model(self) -> ctranslate2.models.Whisper:
        return self.whisper.model

    @property
    def placement(self) -> Placement:
        return self._placements[self._at]

    @contextmanager
    def using(self, *, alone: bool = False) -> Iterator[ctranslate2.models.Whisper]:
        """Yield the model, back from wherever it is; raises OutOfMemory."""
        while not self._entered():
            self.resume()
        try:
            yield self.low_latency_model if alone and self.low_latency_model is not None else self.model
        finally:
            with self._gate:
                self._users -= 1
                self._gate.notify_all()

    def _entered(self) -> bool:
        with self._gate:
            self._gate.wait_for(lambda: not self._held)
            entered = self.state == "loaded"
            self._users += entered
            return entered

    def fall_back(self, seen: Placement) -> bool:
        """Take the next rung that has room, unless somebody has left the one that was seen; says whether there was one.

        Without any the weights are released, and whoever uses them next tries all rungs again.
        """
        with self._moves, self._alone():
            if self.placement is not seen:
                return True
            if self.low_latency_model is not None:
                self._drop_low_latency_model()
                self._backoff.record_fallback("copy", "the workers serve lone callers, too")
                return True
            try:
                self._reopen(self._at + 1)
            except OutOfMemory:
                return False
            return True

    def upgrade(self) -> bool:
        """Take the best rung that has room for what is there now; says whether that is another one.

        Where there is room for both, this one works on meanwhile.
        """
        if self._at == 0 or not self._moves.acquire(blocking=False):
            return False
        try:
            before = self.placement
            above = next((at for at in range(self._at) if self._placements[at].has_room(after=before)), None)
            if above is None or self.state != "loaded":
                return False
            if self._placements[above].has_room():
                self._upgrade_beside(above)
            else:
                with self._alone():
                    self._reopen(above)
        except Exception as exc:
            if not is_out_of_memory(exc) and not isinstance(exc, OutOfMemory):
                raise
            logger.info("the memory is gone again: %s", exc)
        finally:
            self._moves.release()
        if self.placement is not before:
            self._backoff.record_upgrade(str(self.placement))
        return self.placement is not before

    def _upgrade_beside(self, above: int) -> None:
        model = self._open(self._placements[above]).model
        with self._alone():
            old, self.whisper.model, self._at = self.model, model, above
            self.compute_type = str(model.compute_type)
            old.unload_model()

    def offload(self) -> bool:
        """Move the weights of a card to RAM; says whether they are there."""
        with self._moves, self._alone():
            if self.state != "loaded":
                return self.state == "parked"
            self._drop_low_latency_model()
            self.model.unload_model(to_cpu=True)
            if self.model.model_is_loaded:  # on a CPU there is nothing to move
                return False
            self.state = "parked"
            return True

    def resume(self) -> None:
        """Bring them back; raises OutOfMemory."""
        with self._moves, self._alone():
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
        with self._moves, self._alone():
            self._drop_low_latency_model()
            self.model.unload_model()
            self._at, self.state = 0, "released"

    def load_low_latency_model(self) -> None:
        """Load the copy for a lone caller, if the workers' plan has one; without it the model serves as well."""
        with self._moves:
            if not self._workers.low_latency_threads or self.state != "loaded" or self.low_latency_model is not None:
                return
            try:
                threads = self._workers.low_latency_threads
                self.low_latency_model = self.placement.device.open(
                    self._directory, self.placement.compute_type, workers=1, threads=threads
                ).model
            except Exception:
                logger.exception("lone callers are served by the workers, as the copy for them cannot be loaded")

    def _load_from_ram(self) -> None:
        try:
            self.model.load_model()
            self.state = "loaded"
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            logger.warning("the weights do not fit in %s any more: %s", self.placement, exc)
            self._reopen(self._at + 1)

    def _reopen(self, first: int) -> None:
        self.model.unload_model()
        try:
            self.whisper.model = self._opened(first).model
        except OutOfMemory:
            self._at, self.state = 0, "released"
            raise

    def _opened(self, first: int) -> WhisperModel:
        """The first rung that has room, from there on down."""
        for at in range(first, len(self._placements)):
            try:
                whisper = self._open(self._placements[at])
            except Exception as exc:
                if not is_out_of_memory(exc):
                    raise
                logger.warning("the weights do not fit in %s: %s", self._placements[at], exc)
                continue
            if at > self._at:
                self._backoff.record_fallback(_kind(self._placements[at]), f"{self._placements[at]} from now on")
            self._at, self.state = at, "loaded"
            self.compute_type = str(whisper.model.compute_type)
            return whisper
        raise OutOfMemory

    def _open(self, placement: Placement, *, workers: int = 0, threads: int = 0) -> WhisperModel:
        workers, threads = workers or self._workers.count, threads or self._workers.threads
        return placement.device.open(self._directory, placement.compute_type, workers=workers, threads=threads)

    def _drop_low_latency_model(self) -> None:
        low_latency_model, self.low_latency_model = self.low_latency_model, None
        if low_latency_model is not None:
            low_latency_model.unload_model()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate:
            self._gate.wait_for(lambda: not self._held)
            self._held = True
            self._gate.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._gate:
                self._held = False
                self._gate.notify_all()


def _kind(placement: Placement) -> str:
    return "cpu" if placement.device.kind == "cpu" else "compute_type"
