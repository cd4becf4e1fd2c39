"""The boxes of an MP4 file, for one that ends in the middle of one.

FFmpeg refuses the whole of a fragmented recording that was cut off within a fragment's index, though what comes before
can be played. What is cut is left out here instead. Boxes: ISO/IEC 14496-12, 4.2.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

# A day of fragments of a second; each takes a seek, and a client chooses how many there are.
_MOST_BOXES = 200_000


def without_cut_box(file: BinaryIO) -> io.RawIOBase | None:
    """Return the part of the file before its last box if that is incomplete, and None if it is not such a file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(4)
    if file.read(4) != b"ftyp":
        return None
    start = 0
    for _ in range(_MOST_BOXES):
        end = _end_of_box(file, start)
        if end is None or end > size:
            return _Part(file, start) if 0 < start < size else None
        start = end
    return None


def _end_of_box(file: BinaryIO, start: int) -> int | None:
    """None if its header is cut or says what cannot be."""
    file.seek(start)
    header = file.read(16)
    if len(header) < 8:
        return None
    (length,) = struct.unpack_from(">I", header)
    if length == 1 and len(header) == 16:
        (length,) = struct.unpack_from(">Q", header, 8)
    return start + length if length >= 8 else None


class _Part(io.RawIOBase):
    """The first bytes of a file, which stays open."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._size - self._file.tell())
        return self._file.read(rest if size < 0 else min(size, rest))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._file.seek(self._size + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
