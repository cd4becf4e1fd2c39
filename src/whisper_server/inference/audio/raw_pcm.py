"""Raw samples as a WAV file, so that they take the same way as all other files."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from whisper_server.core.errors import BadAudio
from whisper_server.inference.audio.waveform import SAMPLE_RATE

_SAMPLE_BYTES = 2
# What a WAV file can declare; a longer file is read to its end all the same.
_MAX_LENGTH = 2**32 - 1


def as_wav(samples: BinaryIO) -> BinaryIO:
    """Return 16 kHz mono 16-bit little-endian samples with the header of a WAV file; raises BadAudio if empty."""
    return io.BufferedReader(_WithHeader(samples))


class _WithHeader(io.RawIOBase):
    def __init__(self, samples: BinaryIO) -> None:
        self._samples = samples
        self._header = _wav_header(samples.seek(0, io.SEEK_END))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._header[self._position :][: len(buffer)]
        if not data:
            self._samples.seek(self._position - len(self._header))
            data = self._samples.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += len(self._header) + self._samples.seek(0, io.SEEK_END)
        self._position = max(0, offset)
        return self._position

    def tell(self) -> int:
        return self._position


def _wav_header(length: int) -> bytes:
    if not length:
        raise BadAudio("the file is empty")
    length = min(length, _MAX_LENGTH - 36)
    rate = SAMPLE_RATE * _SAMPLE_BYTES
    format = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, rate, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES)
    return b"RIFF" + struct.pack("<I", 36 + length) + b"WAVEfmt " + format + b"data" + struct.pack("<I", length)
