"""Where a model runs and in which type: the little that differs between a CPU and a CUDA card."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import ctranslate2

from whisper_server.settings import SettingsError

_PREFERRED = {
    "cpu": ("int8", "float32"),
    "cuda": ("float16", "int8_float16", "int8", "float32"),
}


@dataclass(frozen=True, slots=True)
class Device:
    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @classmethod
    def choose(cls, wanted: str) -> Device:
        """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`; raises SettingsError if it is not there."""
        cards = ctranslate2.get_cuda_device_count()
        if wanted == "cpu" or (wanted == "auto" and not cards):
            return cls("cpu")
        index = int(wanted.partition(":")[2] or 0)
        if index >= cards:
            raise SettingsError(f"device {wanted} is not there: CUDA finds {cards} device(s) on this machine")
        return cls("cuda", index)

    def compute_type(self, wanted: str) -> str:
        """Return the type for `auto` or the one that is wanted; raises SettingsError if it cannot run here."""
        supported = ctranslate2.get_supported_compute_types(self.kind, self.index)
        if wanted == "auto":
            return next(t for t in _PREFERRED[self.kind] if t in supported)
        if wanted not in supported:
            known = ", ".join(sorted(supported))
            raise SettingsError(f"compute type {wanted} does not run on {self}; it has {known}")
        return wanted

    def used_bytes(self) -> int:
        """Memory in use: of this process on a CPU, of the whole card on CUDA (0 without `nvidia-ml-py`)."""
        return _resident_bytes() if self.kind == "cpu" else _card_bytes(self.index)


def _resident_bytes() -> int:
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _card_bytes(index: int) -> int:
    try:
        import pynvml  # only in the `cuda` extra
    except ImportError:
        return 0
    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).used)
    finally:
        pynvml.nvmlShutdown()
