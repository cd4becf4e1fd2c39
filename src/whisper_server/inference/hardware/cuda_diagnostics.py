"""Why CUDA finds no card here: asked of NVIDIA's driver and of the kernel, in the order in which things go wrong."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_NVIDIA = "0x10de"
_OLDEST_CUDA = 12000
_DRIVER = "install NVIDIA's driver 525.60 or newer"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and the one thing that mends it."""

    cause: str
    cure: str


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `cuInit` returns, and the newest CUDA of the driver, such as 12040 for 12.4."""

    status: int
    version: int


def initialise() -> Initialised:
    """Start the driver in this process; raises OSError if it is not installed."""
    driver = ctypes.CDLL("libcuda.so.1")
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Initialised(driver.cuInit(0), version.value)


def find_problem(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    initialise: Callable[[], Initialised] = initialise,
) -> Problem:
    """Return why there is no card for CUDA, with the file system below `root`."""
    try:
        found = initialise()
    except OSError:
        return _without_driver(root)
    if found.version < _OLDEST_CUDA:
        newest = f"{found.version // 1000}.{found.version % 1000 // 10}"
        return Problem(f"NVIDIA's driver is too old: it is for CUDA {newest}, and CUDA 12 is needed", _DRIVER)
    if environ.get("CUDA_VISIBLE_DEVICES") is not None:
        hidden = environ["CUDA_VISIBLE_DEVICES"]
        return Problem(f"CUDA_VISIBLE_DEVICES is {hidden!r}, which may hide the card", "unset CUDA_VISIBLE_DEVICES")
    return _STATUS.get(found.status, Problem(f"NVIDIA's driver fails with error {found.status}", "see dmesg"))


def _without_driver(root: Path) -> Problem:
    contained = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
    if not _has_card(root):
        return Problem("there is no NVIDIA card in this machine", "--device cpu, or auto, which takes a card if it can")
    if contained:
        return Problem("there is an NVIDIA card, but not in this container", "docker run --gpus all …")
    return Problem("there is an NVIDIA card, but no driver", _DRIVER)


def _has_card(root: Path) -> bool:
    """Whether a graphics or compute card of NVIDIA is on the bus, which containers see, too."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith("0x03"):
            return True
    return (root / "dev/nvidiactl").exists()


_STATUS = {
    0: Problem("the driver works, but CUDA finds no card", "see nvidia-smi"),
    100: Problem("the driver finds no card", "see nvidia-smi; in a container, docker run --gpus all …"),
    802: Problem("the cards' fabric is not ready", "start nvidia-fabricmanager"),
    803: Problem("the driver and its library are of different versions", "restart the machine, or the container"),
    804: Problem("the driver is too old for the CUDA of this container", _DRIVER),
    999: Problem("the driver's module for memory is not loaded", "sudo modprobe nvidia_uvm"),
}
