"""The devices that run models: how a CPU and CUDA GPUs differ in memory, compute types and loading."""

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

# From the most accurate to the smallest. On a CPU, int8 is also the fastest.
_PREFERRED_TYPES = {"cpu": ("int8",), "cuda": ("float16", "int8_float16", "int8")}
# The files of Linux control groups, version 2 and 1: the limit, the usage, and the counter of cached files.
_CGROUPS = (
    ("memory.max", "memory.current", ("memory.stat", "inactive_file")),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", ("memory/memory.stat", "total_inactive_file")),
)
_NO_LIMIT = 2**60


class Hardware(Protocol):
    """What the other packages need from a device. Models are offloaded and run through `WhisperModel.model`."""

    @property
    def kind(self) -> str: ...

    def memory(self) -> Memory | None: ...

    def used_bytes(self) -> int: ...

    def compute_types(self, requested: str) -> tuple[str, ...]: ...

    def open(self, directory: Path, compute_type: str, *, workers: int, threads: int) -> WhisperModel: ...


@dataclass(frozen=True, slots=True)
class Device:
    """A CPU, a GPU, or several GPUs with a copy of the weights on each. `kind` is `cpu` or `cuda`."""

    kind: str
    indices: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{','.join(map(str, self.indices))}"

    @classmethod
    def choose(cls, name: str) -> Device:
        """Return the device for `auto`, `cpu`, `cuda` or `cuda:N,…`; raises SettingsError if it does not exist."""
        gpus = ctranslate2.get_cuda_device_count()
        if name == "cpu" or (name == "auto" and not gpus):
            return cls("cpu")
        indices = tuple(int(index) for index in (name.partition(":")[2] or "0").split(","))
        if max(*indices, 0) >= gpus:
            raise SettingsError(
                f"device {name} is not there: CUDA finds {gpus} device(s) on this machine",
                hint="use --device with a smaller number, or auto",
            )
        return cls("cuda", indices)

    def compute_types(self, requested: str) -> tuple[str, ...]:
        """Return the types to try, in order; raises SettingsError if the device does not support the requested one."""
        supported = (set(ctranslate2.get_supported_compute_types(self.kind, index)) for index in self.indices)
        return fallback_types(self.kind, set.intersection(*supported), requested, self)

    def memory(self) -> Memory | None:
        """Return the memory of the machine or of the fullest GPU; None if unknown, as without `nvidia-ml-py`."""
        if self.kind == "cpu":
            return _ram()
        gpus = [memory for index in self.indices if (memory := _gpu_memory(index)) is not None]
        return min(gpus, key=lambda memory: memory.free) if gpus else None

    def used_bytes(self) -> int:
        """Return the memory in use: by this process on a CPU, on the whole GPU with CUDA (0 without `nvidia-ml-py`)."""
        if self.kind == "cpu":
            return _resident_bytes()
        memory = self.memory()
        return memory.total - memory.free if memory is not None else 0

    def open(self, directory: Path, compute_type: str, *, workers: int, threads: int) -> WhisperModel:
        """Load weights; raises RuntimeError or MemoryError (see `memory_backoff.is_out_of_memory`)."""
        return WhisperModel(
            str(directory),
            device=self.kind,
            device_index=list(self.indices),
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,
        )


def fallback_types(kind: str, supported: set[str], requested: str, device: object) -> tuple[str, ...]:
    """Return the compute types to try, from the best to the smallest; raises SettingsError for an unsupported one.

    A requested type comes first; the smaller ones follow in case memory runs out. For `auto`, float32 replaces a best
    type that is missing, as float16 is on older GPUs.
    """
    preferred = [compute_type for compute_type in _PREFERRED_TYPES[kind] if compute_type in supported]
    if requested == "auto":
        return tuple(preferred) if _PREFERRED_TYPES[kind][0] in supported else ("float32", *preferred)
    if requested not in supported:
        raise SettingsError(
            f"compute type {requested} does not run on {device}; it has {', '.join(sorted(supported))}",
            hint="use --compute-type auto",
        )
    return (requested, *(smaller for smaller in preferred if matrix_bytes(smaller) < matrix_bytes(requested)))


def _resident_bytes() -> int:
    """Return the resident memory; on macOS its peak so far, on Windows 0."""
    if sys.platform == "win32":
        return 0
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _ram(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory | None:
    """Return the memory available to programs, within the container's limit."""
    try:
        sizes = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        free, total = (int(sizes[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return None
    limit = _cgroup_memory(cgroup)
    return Memory(min(free, limit.free), min(total, limit.total))


def _cgroup_memory(cgroup: Path) -> Memory:
    """Return the container's limit and what is left of it; without a limit, more than any machine has."""
    for limit_file, usage_file, (stat_file, cache_counter) in _CGROUPS:
        try:
            total, used = (int((cgroup / file).read_text()) for file in (limit_file, usage_file))
            counters = dict(line.split() for line in (cgroup / stat_file).read_text().splitlines())
            cached = int(counters.get(cache_counter, 0))  # the kernel drops cached files when a program needs memory
            return Memory(max(0, total - used + cached), total)
        except (OSError, ValueError):
            continue
    return Memory(_NO_LIMIT, _NO_LIMIT)


def _gpu_memory(index: int) -> Memory | None:
    try:
        import pynvml  # only in the `cuda` extra
    except ImportError:
        return None
    pynvml.nvmlInit()
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id(index)))
        return Memory(int(memory.free), int(memory.total))
    finally:
        pynvml.nvmlShutdown()


def pci_bus_id(index: int) -> bytes:
    """Return a GPU's PCI address: CUDA numbers GPUs differently from NVML, and only those in CUDA_VISIBLE_DEVICES."""
    driver, device, name = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.create_string_buffer(32)
    driver.cuInit(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetPCIBusId(name, len(name), device)
    return name.value
