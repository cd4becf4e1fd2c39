"""Explains why CUDA finds no GPU, by what NVIDIA's driver and the kernel report."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_NVIDIA_VENDOR = "0x10de"
_OLDEST_CUDA = 12000
_INSTALL_DRIVER = "install NVIDIA's driver 525.60 or newer"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and how to fix it."""

    cause: str
    hint: str


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """The result of `cuInit`, and the newest CUDA version that the driver supports, such as 12040 for 12.4."""

    code: int
    cuda_version: int


def initialise_driver() -> DriverStatus:
    """Initialise the driver in this process; raises OSError if it is not installed."""
    driver = ctypes.CDLL("libcuda.so.1")
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return DriverStatus(driver.cuInit(0), version.value)


def find_problem(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    initialise: Callable[[], DriverStatus] = initialise_driver,
) -> Problem:
    """Return why CUDA has no GPU; `root` is the root of the file system to inspect."""
    try:
        status = initialise()
    except OSError:
        return _without_driver(root)
    if status.cuda_version < _OLDEST_CUDA:
        newest = f"{status.cuda_version // 1000}.{status.cuda_version % 1000 // 10}"
        return Problem(f"NVIDIA's driver is too old: it supports CUDA {newest}, not CUDA 12", _INSTALL_DRIVER)
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return Problem(f"CUDA_VISIBLE_DEVICES is {visible!r}, which may hide the GPU", "unset CUDA_VISIBLE_DEVICES")
    return _STATUS.get(status.code, Problem(f"NVIDIA's driver fails with error {status.code}", "see dmesg"))


def _without_driver(root: Path) -> Problem:
    in_container = any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv"))
    if not _has_gpu(root):
        return Problem(
            "there is no NVIDIA GPU in this machine", "--device cpu, or auto, which uses a GPU if there is one"
        )
    if in_container:
        return Problem("there is an NVIDIA GPU, but not in this container", "docker run --gpus all …")
    return Problem("there is an NVIDIA GPU, but no driver", _INSTALL_DRIVER)


def _has_gpu(root: Path) -> bool:
    """Whether an NVIDIA GPU is on the PCI bus, which containers see too, or has a device node."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, device_class = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and device_class.startswith("0x03"):
            return True
    return (root / "dev/nvidiactl").exists()


# By the code that cuInit returns.
_STATUS = {
    0: Problem("the driver works, but CUDA finds no GPU", "see nvidia-smi"),
    100: Problem("the driver finds no GPU", "see nvidia-smi; in a container, docker run --gpus all …"),
    802: Problem("the GPUs' fabric is not ready", "start nvidia-fabricmanager"),
    803: Problem("the driver and its library have different versions", "restart the machine, or the container"),
    804: Problem("the driver is too old for this container's CUDA", _INSTALL_DRIVER),
    999: Problem("the driver's kernel module nvidia_uvm is not loaded", "sudo modprobe nvidia_uvm"),
}
