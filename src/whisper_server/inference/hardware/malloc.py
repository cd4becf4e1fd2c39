"""Tunes glibc's allocator to keep the memory that one window frees for the next.

CTranslate2 allocates and frees its CPU tensors in every layer. glibc returns large blocks to the kernel at once, and
getting them back costs 130,000 page faults per window with base: a fifth of its time (docs/performance.md).
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

    Applies to the whole process; call it before other threads allocate. Returns False, and changes nothing, without
    glibc.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _KEPT_FREE))
    return all([mallopt(parameter, value) == 1 for parameter, value in options])


def release_freed_memory() -> None:
    """Return free heap memory to the kernel; does nothing without glibc."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(function: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
