"""Makes truncated MP4 files playable.

FFmpeg refuses a fragmented recording that ends within a fragment's index, though everything before it can be played.
This module hides the incomplete box at the end. ISO/IEC 14496-12, 4.2 defines boxes.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

# A day of 1 s fragments. Each box costs a seek, and a client chooses how many there are.
_MAX_BOXES = 200_000


def without_truncated_box(file: BinaryIO) -> FilePrefix | None:
    """Return the file up to its last box if that box is incomplete; None if it is complete or not an MP4."""
    size = file.seek(0, io.SEEK_END)
    file.seek(4)
    if file.read(4) != b"ftyp":
        return None
    start = 0
    for _ in range(_MAX_BOXES):
        end = _end_of_box(file, start)
        if end is None or end > size:
            return FilePrefix(file, start) if 0 < start < size else None
        start = end
    return None


def _end_of_box(file: BinaryIO, start: int) -> int | None:
    """Return the offset of the next box, or None if this one's header is truncated or invalid."""
    file.seek(start)
    header = file.read(16)
    if len(header) < 8:
        return None
    (length,) = struct.unpack_from(">I", header)
    if length == 1 and len(header) == 16:
        (length,) = struct.unpack_from(">Q", header, 8)
    return start + length if length >= 8 else None


class FilePrefix:
    """The first bytes of a file, with the methods that FFmpeg uses."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._file.seek(0)

    def read(self, size: int = -1) -> bytes:
        remaining = max(0, self._size - self._file.tell())
        return self._file.read(remaining if size < 0 else min(size, remaining))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._file.seek(self._size + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
