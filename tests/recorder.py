"""Output of recorders: raw samples, and WAVs whose header was written before their length was known."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


def pcm16(samples: NDArray[np.float32]) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def wav(
    data: bytes, *, rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = PCM, size: int | None = None
) -> bytes:
    """Return a WAV of these bytes; its header has the length `size`."""
    return wav_header(rate=rate, channels=channels, bits=bits, tag=tag, size=len(data) if size is None else size) + data


def wav_header(*, rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = PCM, size: int) -> bytes:
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    if tag == EXTENSIBLE:
        guid = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
        fields += struct.pack("<HHI", 22, bits, 4) + guid
    head = b"WAVE" + b"fmt " + struct.pack("<I", len(fields)) + fields + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(size + len(head), 0xFFFFFFFF)) + head
