"""Limits how much memory FFmpeg may allocate at once.

Its demuxers allocate tables by the number of entries that a file declares: 17 kB of MP4 can make them take 2 GB.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
from functools import cache
from pathlib import Path

import av

logger = logging.getLogger(__name__)

# The index of a day of AAC in an MP4 takes 100 MB.
_MAX_BYTES = 128 << 20


@cache
def limit_allocations() -> bool:
    """Set the limit for the process, and return whether PyAV's copy of FFmpeg was found."""
    library = _library()
    if library is None:
        logger.warning("the memory of FFmpeg is not limited, as its library libavutil was not found")
        return False
    ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(_MAX_BYTES))
    return True


def _library() -> str | None:
    """The libavutil that PyAV's wheels contain, or the system's, with which it was built."""
    package = Path(av.__file__).parent
    folders = (package.with_name("av.libs"), package / ".dylibs")
    found = [path for folder in folders for path in folder.glob("*avutil*")]
    return str(found[0]) if found else ctypes.util.find_library("avutil")
