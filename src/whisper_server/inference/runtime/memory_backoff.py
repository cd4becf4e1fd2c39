"""What a model gives up when a device's memory runs out: first batch size, then beams, then the weights' type."""

from __future__ import annotations

import logging
from collections import Counter
from threading import Lock

logger = logging.getLogger(__name__)

# Messages of CTranslate2 and its libraries. cuBLAS creates its handle late, and without memory it cannot initialise.
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    "bad_alloc",
    "failed to allocate memory",
)

# Labels of the metric whisper_memory_steps_total, which users know; `copy` is the low-latency copy of the weights.
STEPS = ("batch", "beam", "copy", "compute_type", "cpu", "regained")

_NO_BEAM_LIMIT = 64  # more than the 16 beams that a request may have
# An upgrade may have to load weights, so it is tried only after so many batches in a row without an error. Not tuned.
SUCCESSES_BEFORE_UPGRADE = 16


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether less work at a time or smaller weights could have avoided the error."""
    return isinstance(exc, MemoryError) or any(text.lower() in str(exc).lower() for text in _OUT_OF_MEMORY_TEXTS)


class MemoryBackoff:
    """The limits on one model's batches: `max_batch_size` windows with `max_beam_size` beams each. Thread-safe.

    `steps` counts by label (STEPS) how often something was given up or regained.
    """

    def __init__(self, *, max_batch_size: int) -> None:
        self._planned_batch_size = max_batch_size
        self._lock = Lock()
        self._successes = 0
        self.max_batch_size = max_batch_size
        self.max_beam_size = _NO_BEAM_LIMIT
        self.steps: Counter[str] = Counter()

    @property
    def limited(self) -> bool:
        """Whether a limit is lower than at the start."""
        return self.max_batch_size < self._planned_batch_size or self.max_beam_size < _NO_BEAM_LIMIT

    def lower_batch_size(self, failed: int) -> None:
        """Allow half the size of the batch that failed, unless the limit is lower already."""
        with self._lock:
            if self.max_batch_size >= failed:
                self.max_batch_size = max(1, failed // 2)
                self._count("batch", f"batches have at most {self.max_batch_size} windows from now on")

    def lower_beam_size(self, failed: int) -> None:
        """Allow half the beam size that failed, unless the limit is lower already."""
        with self._lock:
            if self.max_beam_size >= failed:
                self.max_beam_size = max(1, failed // 2)
                self._count("beam", f"searches have at most {self.max_beam_size} beams from now on")

    def record_fallback(self, step: str, description: str) -> None:
        """Record that weights were given up, and lift the limit on beams: there is room for them again."""
        with self._lock:
            self.max_beam_size = _NO_BEAM_LIMIT
            self._count(step, description)

    def record_upgrade(self, placement: str) -> None:
        """Record that better weights were regained."""
        with self._lock:
            self._count("regained", f"the model is on {placement} again")

    def record_success(self) -> bool:
        """Record a batch without an error; returns whether it is time to try an upgrade."""
        with self._lock:
            self._successes += 1
            return self._successes % SUCCESSES_BEFORE_UPGRADE == 0

    def relax(self) -> None:
        """Double one limit: that on beams first, as they matter for the text, and batches only for the speed."""
        with self._lock:
            if self.max_beam_size < _NO_BEAM_LIMIT:
                self.max_beam_size = min(_NO_BEAM_LIMIT, 2 * self.max_beam_size)
            elif self.max_batch_size < self._planned_batch_size:
                self.max_batch_size = min(self._planned_batch_size, 2 * self.max_batch_size)

    def _count(self, step: str, description: str) -> None:
        self._successes = 0
        self.steps[step] += 1
        logger.warning("%s: %s", "memory is free again" if step == "regained" else "memory ran out", description)
