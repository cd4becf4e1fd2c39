"""Parses a WAV that is still being written: a header, and then audio without a known end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from whisper_server.core.errors import BadAudio

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_ENCODINGS = {
    (_PCM, 8): "pcm8",
    (_PCM, 16): "pcm16",
    (_PCM, 24): "pcm24",
    (_PCM, 32): "pcm32",
    (_FLOAT, 32): "float32",
    (_FLOAT, 64): "float64",
    (_ALAW, 8): "alaw",
    (_MULAW, 8): "mulaw",
}
# Sizes in bytes. A recorder that writes to a pipe does not know the size: it writes 0 or about the largest possible.
_UNKNOWN_SIZE = 0
_ENDLESS_SIZE = 0x7FFF_0000
# A `fmt ` chunk has 16 to 40 bytes, and chunks before the audio are small: larger ones mean a damaged header.
_MAX_FORMAT_SIZE = 1024
_MAX_HEADER_CHUNK_SIZE = 2**20


@dataclass(frozen=True, slots=True)
class PCMFormat:
    """`rate` is in Hz."""

    encoding: str
    rate: int
    channels: int


class WAVStreamParser:
    """Extracts the samples from the bytes of one WAV, or of several in a row."""

    def __init__(self) -> None:
        self._buffer = b""
        self._bytes_to_skip = 0
        self._audio_bytes_left: float = 0
        self._padding = 0
        self._audio_started = False
        self._format: PCMFormat | None = None

    def split(self, data: bytes) -> Iterator[tuple[PCMFormat, bytes]]:
        """Yield the samples in these bytes with their format; raises BadAudio."""
        self._buffer += data
        while self._buffer:
            if self._bytes_to_skip:
                self._skip()
            elif self._audio_bytes_left:
                yield self._take_audio()
            elif not self._read_chunk():
                return

    def _skip(self) -> None:
        skipped = min(self._bytes_to_skip, len(self._buffer))
        self._buffer, self._bytes_to_skip = self._buffer[skipped:], self._bytes_to_skip - skipped

    def _take_audio(self) -> tuple[PCMFormat, bytes]:
        assert self._format is not None
        taken = int(min(self._audio_bytes_left, len(self._buffer)))
        payload, self._buffer = self._buffer[:taken], self._buffer[taken:]
        self._audio_bytes_left -= taken
        if not self._audio_bytes_left:
            self._bytes_to_skip = self._padding
        return self._format, payload

    def _read_chunk(self) -> bool:
        """Read the header of the next chunk; return False if it is incomplete."""
        if len(self._buffer) < 8:
            return False
        name, size = self._buffer[:4], struct.unpack("<I", self._buffer[4:8])[0]
        if name in (b"RIFF", b"RF64"):
            return self._read_riff()
        if name == b"fmt ":
            return self._read_format(size)
        self._buffer = self._buffer[8:]
        if name != b"data":
            if size > _MAX_HEADER_CHUNK_SIZE and not self._audio_started:
                raise BadAudio("the WAV's header is damaged")
            self._bytes_to_skip = size + size % 2
        elif self._format is None:
            raise BadAudio("the WAV's data come before their format")
        else:
            self._audio_started = True
            endless = size == _UNKNOWN_SIZE or size >= _ENDLESS_SIZE
            self._audio_bytes_left = float("inf") if endless else size
            self._padding = 0 if endless else size % 2
        return True

    def _read_riff(self) -> bool:
        if len(self._buffer) < 12:
            return False
        if self._buffer[8:12] != b"WAVE":
            raise BadAudio("this is no WAV: it is another kind of RIFF")
        self._buffer = self._buffer[12:]
        return True

    def _read_format(self, size: int) -> bool:
        if not 16 <= size <= _MAX_FORMAT_SIZE:
            raise BadAudio("the WAV's header is damaged")
        if len(self._buffer) < 8 + size:
            return False
        self._format = _parse_format(self._buffer[8 : 8 + size])
        self._buffer = self._buffer[8:]
        self._bytes_to_skip = size + size % 2
        return True


def _parse_format(chunk: bytes) -> PCMFormat:
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack("<H", chunk[24:26])
    if (tag, bits) not in _ENCODINGS:
        raise BadAudio(f"a WAV of format {tag} with {bits} bits cannot be read; PCM of 16 bits can")
    return PCMFormat(_ENCODINGS[tag, bits], rate, channels)
