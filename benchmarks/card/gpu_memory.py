"""The memory in use on the card, by NVML, and its peak while something runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from whisper_server.inference.hardware.device import pci_bus_id

_INTERVAL = 0.02


class GpuMemory:
    """Reads the memory that all programs together use on the first visible GPU, in bytes.

    On a CPU it is not `measurable`, and reads 0. Raises ImportError without nvidia-ml-py.
    """

    def __init__(self, device: str) -> None:
        self._handle = _open() if device != "cpu" else None

    @property
    def measurable(self) -> bool:
        return self._handle is not None

    def used(self) -> int:
        return 0 if self._handle is None else int(_memory(self._handle).used)

    def free(self) -> int:
        return 0 if self._handle is None else int(_memory(self._handle).free)

    @contextmanager
    def peak(self) -> Iterator[Peak]:
        """Yield the peak so far, which grows until the end of the block."""
        peak, stopped = Peak(self.used()), Event()

        def sample() -> None:
            while not stopped.wait(_INTERVAL):
                peak.bytes = max(peak.bytes, self.used())

        thread = Thread(target=sample, name="sample memory", daemon=True)
        thread.start()
        try:
            yield peak
        finally:
            stopped.set()
            thread.join()


@dataclass
class Peak:
    bytes: int


def _open() -> Any:
    import pynvml  # only in the `cuda` extra

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id(0))


def _memory(handle: Any) -> Any:
    import pynvml

    return pynvml.nvmlDeviceGetMemoryInfo(handle)
