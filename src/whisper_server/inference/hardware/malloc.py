"""The C library's heap, told to keep the memory that one window leaves for the next.

CTranslate2 allocates and frees its tensors on the CPU with every layer. glibc gives large ones back to the kernel at
once, and asking for them again costs 130,000 page faults a window of base: a fifth of its time (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# The parameters of glibc's mallopt().
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8

# An attention matrix of large-v3 is 180 MB, the samples of two hours are 460 MB.
_LARGEST_KEPT = 256 * 2**20
_KEPT_FREE = 1024 * 2**20


def keep_freed_memory() -> bool:
    """Serve allocations of up to 256 MB from one heap that keeps up to 1 GB free at its end.

    It concerns the whole process and must come before its threads allocate. Without glibc nothing changes, and the
    answer is False.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _KEPT_FREE))
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted])


def release_freed_memory() -> None:
    """Give back what the heap keeps, where the C library can."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(function: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
