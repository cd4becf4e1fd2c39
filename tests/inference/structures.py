"""Damages audio files along the structure of their containers, so that the damage gets past the first checks."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MP4_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"udta", b"dinf", b"edts"}
# EBML, Segment, Tracks, TrackEntry, Audio, Cluster, BlockGroup, Cues
_EBML_PARENTS = {
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe1", b"\x1f\x43\xb6\x75", b"\xa0",
    b"\x1c\x53\xbb\x6b",
}  # fmt: skip
_MAX_DEPTH = 20
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Element:
    """A part of a file with a header; its size is an integer of `size_bytes` at `size_at`, 0 if there is none."""

    start: int
    content: int
    stop: int
    size_at: int = 0
    size_bytes: int = 0
    order: str = "big"


def elements(file: bytes) -> list[Element]:
    """Return the boxes, chunks, pages or blocks of a file of a format that is known here, or nothing."""
    if file[4:8] == b"ftyp":
        return list(_mp4(file, 0, len(file)))
    if file[:4] in (b"RIFF", b"FORM"):
        return list(_riff(file, "little" if file[:4] == b"RIFF" else "big"))
    if file[:4] == b"OggS":
        return list(_ogg(file))
    if file[:4] == b"\x1a\x45\xdf\xa3":
        return list(_ebml(file, 0, len(file)))
    if file[:4] == b"fLaC":
        return list(_flac(file))
    return []


def _mp4(file: bytes, start: int, stop: int, depth: int = 0) -> Iterator[Element]:
    while start + 8 <= stop:
        size = int.from_bytes(file[start : start + 4], "big")
        if not 8 <= size <= stop - start:
            return
        yield Element(start, start + 8, start + size, start, 4)
        if file[start + 4 : start + 8] in _MP4_PARENTS and depth < _MAX_DEPTH:
            yield from _mp4(file, start + 8, start + size, depth + 1)
        start += size


def _riff(file: bytes, order: str) -> Iterator[Element]:
    start = 12
    while start + 8 <= len(file):
        size = int.from_bytes(file[start + 4 : start + 8], order)  # type: ignore[arg-type]
        yield Element(start, start + 8, min(len(file), start + 8 + size), start + 4, 4, order)
        start += 8 + size + size % 2


def _ogg(file: bytes) -> Iterator[Element]:
    start = 0
    while file[start : start + 4] == b"OggS":
        segments = file[start + 26]
        content = start + 27 + segments
        stop = content + sum(file[start + 27 : content])
        yield Element(start, content, stop, start + 26, 1)
        start = stop


def _ebml(file: bytes, start: int, stop: int) -> Iterator[Element]:
    while start < stop and file[start]:
        id_bytes = 9 - file[start].bit_length()
        size_at = start + id_bytes
        if size_at >= stop or not file[size_at]:
            return
        size_bytes = 9 - file[size_at].bit_length()
        size = int.from_bytes(file[size_at : size_at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        content = size_at + size_bytes
        end = stop if size == (1 << 7 * size_bytes) - 1 else min(stop, content + size)
        yield Element(start, content, end, size_at, size_bytes)
        if file[start:size_at] in _EBML_PARENTS:
            yield from _ebml(file, content, end)
        start = end


def _flac(file: bytes) -> Iterator[Element]:
    start, last = 4, False
    while not last and start + 4 <= len(file):
        last = bool(file[start] & 0x80)
        stop = start + 4 + int.from_bytes(file[start + 1 : start + 4], "big")
        yield Element(start, start + 4, stop, start + 1, 3)
        start = stop


def damaged(rng: random.Random, file: bytes) -> bytes:
    """Return the file with one to three of its elements changed; of an unknown format, with extreme numbers."""
    for _ in range(rng.randint(1, 3)):
        found = elements(file)
        file = _change(rng, file, rng.choice(found), found) if found else _with_extreme(rng, file, 0, len(file))
    return _with_checksums(file) if file[:4] == b"OggS" else file


def _change(rng: random.Random, file: bytes, one: Element, found: list[Element]) -> bytes:
    before, element, after = file[: one.start], file[one.start : one.stop], file[one.stop :]
    match rng.choice(["remove", "repeat", "move", "size", "name", "number", "number", "cut", "nest"]):
        case "remove":
            return before + after
        case "repeat":
            return before + element * rng.choice((2, 3, 100 if len(element) < 1000 else 2)) + after
        case "move":
            to = rng.choice(found).start
            rest = before + after
            return rest[:to] + element + rest[to:]
        case "size":
            size = rng.choice((*_EXTREMES, len(element) - 1, len(element) + 1, rng.randrange(1 << 24)))
            raw = (size % (1 << 8 * one.size_bytes)).to_bytes(one.size_bytes, one.order)  # type: ignore[arg-type]
            return file[: one.size_at] + raw + file[one.size_at + one.size_bytes :]
        case "name":
            return before + rng.choice((rng.randbytes(4), b"free", b"data", b"moov", b"stsd")) + element[4:] + after
        case "cut":
            return before + element[: rng.randrange(len(element) + 1)] + after
        case "nest":
            for _ in range(rng.choice((1, 10, 1000))):
                element = struct.pack(">I4s", len(element) + 8, b"moov") + element
            return before + element + after
        case _:
            return _with_extreme(rng, file, one.content, one.stop)


def _with_extreme(rng: random.Random, file: bytes, start: int, stop: int) -> bytes:
    """Replace an aligned number in a part of the file, most often near its beginning, where fields are."""
    if stop - start < 8:
        return file
    width = rng.choice((1, 2, 4, 8))
    at = start + min(stop - start - width, int(rng.expovariate(1 / 32)))
    value = rng.choice(_EXTREMES) % (1 << 8 * width)
    return file[:at] + value.to_bytes(width, rng.choice(("big", "little"))) + file[at + width :]


def _with_checksums(file: bytes) -> bytes:
    """Give Ogg pages the checksums that they need to be read at all."""
    data = bytearray(file)
    for page in _ogg(file):
        if page.stop <= len(data):
            data[page.start + 22 : page.start + 26] = bytes(4)
            data[page.start + 22 : page.start + 26] = _ogg_checksum(data[page.start : page.stop]).to_bytes(4, "little")
    return bytes(data)


def _ogg_checksum(page: bytes | bytearray) -> int:
    """RFC 3533: CRC-32 with the polynomial 0x04c11db7, neither reflected nor inverted."""
    checksum = 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ _TABLE[checksum >> 24 ^ byte]
    return checksum


def _table_entry(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


_TABLE = [_table_entry(index) for index in range(256)]
