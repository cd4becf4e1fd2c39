"""What the results depend on: the card, its driver, and the versions of what runs on it."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.report import machine
from whisper_server.inference.hardware.device import pci_bus_id
from whisper_server.inference.hardware.worker_plan import available_cpus

_PACKAGES = ("whisper-server", "ctranslate2", "faster-whisper", "numpy", "nvidia-cublas-cu12", "nvidia-ml-py")


def describe_machine(device: str, cublas: str) -> dict[str, Any]:
    """Return facts as a flat dictionary; `card` says where the models run, "CPU only" without a GPU."""
    card = describe_card() if device != "cpu" else {"card": "CPU only"}
    versions = {package: _version(package) for package in _PACKAGES}
    return {
        **card,
        "cublas": cublas,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "cpu": f"{machine()}, {available_cpus()} CPUs",
        **versions,
    }


def describe_card() -> dict[str, Any]:
    """Return the name, driver, CUDA version and memory of the first visible GPU, by NVML."""
    import pynvml  # only in the `cuda` extra

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id(0))
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "card": _text(pynvml.nvmlDeviceGetName(handle)),
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
            "cuda of the driver": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "compute capability": ".".join(map(str, pynvml.nvmlDeviceGetCudaComputeCapability(handle))),
            "memory MB": round(memory.total / 1e6),
            "memory in use before MB": round(memory.used / 1e6),
        }
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    """Older versions of nvidia-ml-py return bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
