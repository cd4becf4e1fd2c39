"""Where a model runs: the little that differs between a CPU and a CUDA card, which is memory, types and loading."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ctranslate2
from faster_whisper import WhisperModel

from whisper_server.core.errors import SettingsError
from whisper_server.inference.hardware.memory_plan import Memory, matrix_bytes

# From the best to the smallest. On a CPU int8 is a matter of speed as well.
_LADDERS = {
    "cpu": ("int8",),
    "cuda": ("float16", "int8_float16", "int8"),
}
_CGROUPS = (
    ("memory.max", "memory.current", ("memory.stat", "inactive_file")),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        ("memory/memory.stat", "total_inactive_file"),
    ),
)
_NO_LIMIT = 2**60


class Hardware(Protocol):
    """What the rest needs of a device. The weights are those of `WhisperModel.model`: it runs them and moves them."""

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""

    def memory(self) -> Memory | None:
        """What is free and what there is; None where nobody knows."""

    def used_bytes(self) -> int: ...

    def compute_types(self, wanted: str) -> tuple[str, ...]:
        """Return the types to try in this order; raises SettingsError if the one that is wanted cannot run here."""

    def open(self, directory: Path, compute_type: str, *, workers: int, threads: int) -> WhisperModel:
        """Load weights; raises RuntimeError or MemoryError (pressure.is_out_of_memory)."""


@dataclass(frozen=True, slots=True)
class Device:
    """A CPU, a card, or several cards with a copy of the weights on each."""

    kind: str
    index: int = 0
    more: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{','.join(map(str, self.indices))}"

    @property
    def indices(self) -> tuple[int, ...]:
        return (self.index, *self.more)

    @classmethod
    def choose(cls, wanted: str) -> Device:
        """Return the device for `auto`, `cpu`, `cuda` or `cuda:N,…`; raises SettingsError if it is not there."""
        cards = ctranslate2.get_cuda_device_count()
        if wanted == "cpu" or (wanted == "auto" and not cards):
            return cls("cpu")
        first, *more = (int(index) for index in (wanted.partition(":")[2] or "0").split(","))
        if max(first, *more, 0) >= cards:
            raise SettingsError(
                f"device {wanted} is not there: CUDA finds {cards} device(s) on this machine",
                hint="use --device with a smaller number, or auto",
            )
        return cls("cuda", first, tuple(more))

    def compute_type(self, wanted: str) -> str:
        """Return the best type for `auto` or the one that is wanted; raises SettingsError if it cannot run here."""
        return self.compute_types(wanted)[0]

    def compute_types(self, wanted: str) -> tuple[str, ...]:
        """Return the types to try in this order; raises SettingsError if the one that is wanted cannot run here."""
        supported = set.intersection(*(self._supported(index) for index in self.indices))
        return ladder(self.kind, supported, wanted, self)

    def _supported(self, index: int) -> set[str]:
        return set(ctranslate2.get_supported_compute_types(self.kind, index))

    def memory(self) -> Memory | None:
        """What is free and what there is, of the fullest card; None without `nvidia-ml-py`."""
        if self.kind == "cpu":
            return _ram()
        cards = [_card(index) for index in self.indices]
        known = [card for card in cards if card is not None]
        return min(known, key=lambda card: card.free) if known else None

    def used_bytes(self) -> int:
        """Memory in use: of this process on a CPU, of the whole card on CUDA (0 without `nvidia-ml-py`)."""
        if self.kind == "cpu":
            return _resident_bytes()
        memory = self.memory()
        return memory.total - memory.free if memory is not None else 0

    def open(self, directory: Path, compute_type: str, *, workers: int, threads: int) -> WhisperModel:
        return WhisperModel(
            str(directory),
            device=self.kind,
            device_index=list(self.indices),
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,
        )


def ladder(kind: str, supported: set[str], wanted: str, device: object) -> tuple[str, ...]:
    """Return the types from the best to the smallest; raises SettingsError for a wanted one that is not supported.

    What is wanted comes first; what is smaller is for when memory runs out. Where the best is missing, as float16 is on
    older cards, float32 stands for it.
    """
    usual = [compute_type for compute_type in _LADDERS[kind] if compute_type in supported]
    if wanted == "auto":
        return tuple(usual) if _LADDERS[kind][0] in supported else ("float32", *usual)
    if wanted not in supported:
        raise SettingsError(
            f"compute type {wanted} does not run on {device}; it has {', '.join(sorted(supported))}",
            hint="use --compute-type auto",
        )
    return (wanted, *(smaller for smaller in usual if matrix_bytes(smaller) < matrix_bytes(wanted)))


def _resident_bytes() -> int:
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _ram(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory | None:
    """What programs can still have, within the limit of the container."""
    try:
        sizes = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        free, total = (int(sizes[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return None
    limit = _limit(cgroup)
    return Memory(min(free, limit.free), min(total, limit.total))


def _limit(cgroup: Path) -> Memory:
    """That of version 2 or 1 of Linux control groups; more than any machine has without one."""
    for most, used, stat in _CGROUPS:
        try:
            total, taken = (int((cgroup / file).read_text()) for file in (most, used))
            counts = dict(line.split() for line in (cgroup / stat[0]).read_text().splitlines())
            cached = int(counts.get(stat[1], 0))  # files, which make room for whoever wants it
            return Memory(max(0, total - taken + cached), total)
        except (OSError, ValueError):
            continue
    return Memory(_NO_LIMIT, _NO_LIMIT)


def _card(index: int) -> Memory | None:
    try:
        import pynvml  # only in the `cuda` extra
    except ImportError:
        return None
    pynvml.nvmlInit()
    try:
        found = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByPciBusId(_bus_id(index)))
        return Memory(int(found.free), int(found.total))
    finally:
        pynvml.nvmlShutdown()


def _bus_id(index: int) -> bytes:
    """CUDA counts the cards in another order than NVML does, and only those of CUDA_VISIBLE_DEVICES."""
    driver, device, name = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.create_string_buffer(32)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetPCIBusId(name, len(name), device)
    return name.value
