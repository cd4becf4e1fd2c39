"""What gives way when a device's memory runs out: first the batch, then the beam, then the weights' type."""

from __future__ import annotations

import logging
from collections import Counter
from threading import Lock

logger = logging.getLogger(__name__)

# What CTranslate2 and what it is built on say. cuBLAS makes its handle late, and without memory that fails oddly.
_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    "bad_alloc",
    "failed to allocate memory",
)

STEPS = ("batch", "beam", "copy", "compute_type", "cpu", "regained")

_LARGEST_BEAM = 64
# So many batches in a row that worked are the occasion to ask for more again.
CONFIDENCE = 16


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether less work or smaller weights could have avoided it."""
    return isinstance(exc, MemoryError) or any(text.lower() in str(exc).lower() for text in _TEXTS)


class MemoryBackoff:
    """How much a model takes at once: `batch` windows, and no more beams than `beam`. Any thread may ask and tell.

    `steps` counts what was given up (`batch`, `beam`, `copy`, `compute_type`, `cpu`) and got back (`regained`).
    """

    def __init__(self, *, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._lock = Lock()
        self._successes = 0
        self.batch = max_batch_size
        self.beam = _LARGEST_BEAM
        self.steps: Counter[str] = Counter()

    @property
    def limited(self) -> bool:
        return self.batch < self._max_batch_size or self.beam < _LARGEST_BEAM

    def lower_batch(self, failed: int) -> None:
        """Note that a batch of that size was too large."""
        with self._lock:
            if self.batch >= failed:
                self.batch = max(1, failed // 2)
                self._count("batch", f"batches of up to {self.batch} from now on")

    def lower_beam(self, failed: int) -> None:
        with self._lock:
            if self.beam >= failed:
                self.beam = max(1, failed // 2)
                self._count("beam", f"up to {self.beam} beams from now on")

    def record_fallback(self, what: str, instead: str) -> None:
        """Note that the weights have given way, which leaves room for beams."""
        with self._lock:
            self.beam = _LARGEST_BEAM
            self._count(what, instead)

    def record_success(self) -> bool:
        """Note that a batch worked; says now and then that it is time to ask for more."""
        with self._lock:
            self._successes += 1
            return self._successes % CONFIDENCE == 0

    def relax(self) -> None:
        """Allow the next more: beams before batches, which are only a matter of speed."""
        with self._lock:
            if self.beam < _LARGEST_BEAM:
                self.beam = min(_LARGEST_BEAM, 2 * self.beam)
            elif self.batch < self._max_batch_size:
                self.batch = min(self._max_batch_size, 2 * self.batch)

    def record_upgrade(self, what: str) -> None:
        with self._lock:
            self._count("regained", f"{what} again")

    def _count(self, what: str, instead: str) -> None:
        self._successes = 0
        self.steps[what] += 1
        logger.warning("%s: %s", "there is memory again" if what == "regained" else "memory ran out", instead)
