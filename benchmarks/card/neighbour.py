"""Another program that takes memory of the card and gives it back, by CUDA's driver, without any other library.

    python -m benchmarks.card.neighbour

It reads lines with the number of bytes to leave free on the first visible GPU, takes the rest, and prints the free
bytes; "free" gives everything back.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

_BLOCK = 64 * 2**20


class DriverMemory:
    """Blocks of the GPU's memory; raises OSError without a driver, and RuntimeError if a call of it fails."""

    def __init__(self, driver: Any = None, *, block: int = _BLOCK) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1") if driver is None else driver
        self._block = block
        self._blocks: list[ctypes.c_uint64] = []
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def leave(self, size: int) -> None:
        """Take or give back blocks until about so many bytes are free."""
        while self._blocks and self.free_bytes() < size:
            self._call("cuMemFree_v2", self._blocks.pop())
        while self.free_bytes() - self._block >= size:
            block = ctypes.c_uint64()
            if self._driver.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(self._block)):
                return  # another program was faster
            self._blocks.append(block)

    def give_back(self) -> None:
        while self._blocks:
            self._call("cuMemFree_v2", self._blocks.pop())

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self._driver, name)
        if status := function(*arguments):
            raise RuntimeError(f"{name} fails with error {status}")


class Neighbour:
    """That program in a process of its own, as a context manager. Without a GPU, nothing is started or taken."""

    def __init__(self, *, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._process: subprocess.Popen[str] | None = None

    def leave(self, size: int) -> int:
        """Leave about so many bytes free, and return how many there are then."""
        return self._ask(str(size))

    def give_back(self) -> int:
        return self._ask("free")

    def _ask(self, line: str) -> int:
        if self._process is None:
            return 0
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the program that takes the card's memory has ended; see the log")
        return int(answer)

    def __enter__(self) -> Neighbour:
        if self._on_gpu:
            command = [sys.executable, "-m", "benchmarks.card.neighbour"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def main() -> None:
    memory = DriverMemory()
    for line in sys.stdin:
        if line.strip() == "free":
            memory.give_back()
        else:
            memory.leave(int(line))
        print(memory.free_bytes(), flush=True)


if __name__ == "__main__":
    main()
