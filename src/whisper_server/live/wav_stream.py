"""A WAV that is still being written: its header, and then audio without an end."""

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
# A recorder that writes to a pipe cannot know how much follows. It says nothing, or the most that it may.
_UNKNOWN = 0
_ENDLESS = 0x7FFF_0000
_LONGEST_FORMAT = 1024
_LONGEST_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples are written."""

    encoding: str
    rate: int
    channels: int


class WAVStreamParser:
    """Splits the bytes of one WAV, or of several after each other, into samples and the rest."""

    def __init__(self) -> None:
        self._held = b""
        self._skip = 0
        self._remaining: float = 0
        self._padding = 0
        self._heard = False
        self._layout: Layout | None = None

    def split(self, data: bytes) -> Iterator[tuple[Layout, bytes]]:
        """Yield the samples in these bytes, each time with their layout; raises BadAudio."""
        self._held += data
        while self._held:
            if self._skip:
                self._drop()
            elif self._remaining:
                yield self._audio()
            elif not self._read_chunk():
                return

    def _drop(self) -> None:
        dropped = min(self._skip, len(self._held))
        self._held, self._skip = self._held[dropped:], self._skip - dropped

    def _audio(self) -> tuple[Layout, bytes]:
        assert self._layout is not None
        taken = int(min(self._remaining, len(self._held)))
        payload, self._held = self._held[:taken], self._held[taken:]
        self._remaining -= taken
        if not self._remaining:
            self._skip = self._padding
        return self._layout, payload

    def _read_chunk(self) -> bool:
        """Take the head of the next chunk; false if there is not enough of it yet."""
        if len(self._held) < 8:
            return False
        name, size = self._held[:4], struct.unpack("<I", self._held[4:8])[0]
        if name in (b"RIFF", b"RF64"):
            return self._read_form()
        if name == b"fmt ":
            return self._read_format(size)
        self._held = self._held[8:]
        if name != b"data":
            if size > _LONGEST_CHUNK and not self._heard:
                raise BadAudio("the WAV's header is damaged")
            self._skip = size + size % 2
        elif self._layout is None:
            raise BadAudio("the WAV has data before it says how they are written")
        else:
            self._heard = True
            endless = size == _UNKNOWN or size >= _ENDLESS
            self._remaining = float("inf") if endless else size
            self._padding = 0 if endless else size % 2
        return True

    def _read_form(self) -> bool:
        if len(self._held) < 12:
            return False
        if self._held[8:12] != b"WAVE":
            raise BadAudio("this is no WAV: it is another kind of RIFF")
        self._held = self._held[12:]
        return True

    def _read_format(self, size: int) -> bool:
        if not 16 <= size <= _LONGEST_FORMAT:
            raise BadAudio("the WAV's header is damaged")
        if len(self._held) < 8 + size:
            return False
        self._layout = _layout(self._held[8 : 8 + size])
        self._held = self._held[8:]
        self._skip = size + size % 2
        return True


def _layout(format: bytes) -> Layout:
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", format[:16])
    if tag == _EXTENSIBLE and len(format) >= 26:
        (tag,) = struct.unpack("<H", format[24:26])
    if (tag, bits) not in _ENCODINGS:
        raise BadAudio(f"a WAV of format {tag} with {bits} bits cannot be read; PCM of 16 bits can")
    return Layout(_ENCODINGS[tag, bits], rate, channels)
