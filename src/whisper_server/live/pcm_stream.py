"""Bytes as clients send them -> float32 mono 16 kHz samples, whatever the pieces that they come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from whisper_server.core.errors import BadAudio
from whisper_server.live.wav_stream import Layout, WAVStreamParser

SAMPLE_RATE = 16_000
RATES = range(4_000, 384_001)
CHANNELS = range(1, 17)

# `auto` is a WAV if it begins as one, and otherwise pcm16.
Encoding = Literal["auto", "wav", "pcm16", "float32", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

Samples: TypeAlias = NDArray[np.float32]

# How other files begin. Nothing here opens them: what guesses can be made to read other files and sockets.
_OTHERS = {
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3\x03": "MP3",
    b"ID3\x04": "MP3",
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"FORM": "AIFF",
}
_MAGIC = 4


class PCMStreamDecoder:
    """One client's audio. `rate` in Hz and `channels` are of raw samples; a WAV says its own."""

    def __init__(self, rate: int = SAMPLE_RATE, encoding: Encoding = "auto", channels: int = 1) -> None:
        _check(rate, channels)
        self._raw = Layout("pcm16" if encoding in ("auto", "wav") else encoding, rate, channels)
        self._encoding = encoding
        self._beginning = b""
        self._waves: WAVStreamParser | None = None
        self._begun = False
        self._track: _Track | None = None

    def decode(self, data: bytes) -> Samples:
        """Return the samples, in -1..1, shape (n,), that are complete with these bytes; raises BadAudio."""
        if not self._begun:
            self._beginning += data
            if len(self._beginning) < _MAGIC:
                return np.empty(0, np.float32)
            data, self._beginning = self._beginning, b""
            self._begin(data[:_MAGIC])
        pieces = [(self._raw, data)] if self._waves is None else self._waves.split(data)
        return _joined([self._decoded(layout, payload) for layout, payload in pieces])

    def close(self) -> Samples:
        """Return what the resampler still holds; raises BadAudio if the audio had only begun."""
        if self._waves is not None and self._track is None:
            raise BadAudio("the WAV ended within its header")
        return self._track.close() if self._track is not None else np.empty(0, np.float32)

    def _begin(self, magic: bytes) -> None:
        self._begun = True
        if magic in (b"RIFF", b"RF64") and self._encoding in ("auto", "wav"):
            self._waves = WAVStreamParser()
        elif magic in _OTHERS:
            raise BadAudio(f"this is {_OTHERS[magic]}; live audio is a WAV or raw samples")
        elif self._encoding == "wav":
            raise BadAudio("this is no WAV: it does not begin with RIFF")

    def _decoded(self, layout: Layout, payload: bytes) -> Samples:
        ended = np.empty(0, np.float32)
        if self._track is None or self._track.layout != layout:
            _check(layout.rate, layout.channels)
            if self._track is not None:
                ended = self._track.close()
            self._track = _Track(layout)
        return _joined([ended, self._track.decode(payload)])


class _Track:
    """Audio of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._format = _FORMATS[layout.encoding]()
        self._rest = b""
        self._resampler: _Resampler | None = None if layout.rate == SAMPLE_RATE else _Resampler(layout.rate)

    def decode(self, data: bytes) -> Samples:
        data = self._rest + data
        whole = len(data) - len(data) % (self._format.width * self.layout.channels)
        self._rest = data[whole:]
        samples = self._format.read(data[:whole])
        if not np.isfinite(samples).all():
            raise BadAudio("some of the samples are not numbers; is their encoding another one?")
        mono = samples.reshape(-1, self.layout.channels).mean(axis=1) if self.layout.channels > 1 else samples
        clipped = np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)
        return clipped if self._resampler is None else self._resampler.resample(clipped)

    def close(self) -> Samples:
        return np.empty(0, np.float32) if self._resampler is None else self._resampler.close()


class _Resampler:
    """Keeps the filter's state, so pieces come out as the whole would."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._used = False

    def resample(self, samples: Samples) -> Samples:
        if not len(samples):
            return samples
        self._used = True
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = self._rate
        return self._converted(frame)

    def close(self) -> Samples:
        return self._converted(None) if self._used else np.empty(0, np.float32)

    def _converted(self, frame: AudioFrame | None) -> Samples:
        return _joined([converted.to_ndarray()[0] for converted in self._resampler.resample(frame)])


@dataclass(frozen=True, slots=True)
class _Format:
    """`read` turns samples of `width` bytes each into float32."""

    width: int
    read: Callable[[bytes], NDArray[Any]]


def _scaled(dtype: str, scale: float, middle: float = 0.0) -> Callable[[], _Format]:
    def read(data: bytes) -> NDArray[Any]:
        return (np.frombuffer(data, dtype).astype(np.float32) - np.float32(middle)) / np.float32(scale)

    return lambda: _Format(np.dtype(dtype).itemsize, read)


def _pcm24() -> _Format:
    def read(data: bytes) -> NDArray[Any]:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)

    return _Format(3, read)


def _companded(expand: Callable[[NDArray[np.int32]], NDArray[np.int32]]) -> Callable[[], _Format]:
    def make() -> _Format:
        table = expand(np.arange(256, dtype=np.int32)).astype(np.float32) / np.float32(32768)
        return _Format(1, lambda data: table[np.frombuffer(data, np.uint8)])

    return make


def _mulaw(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """ITU-T G.711, table 2."""
    codes = ~codes & 0xFF
    magnitude = ((((codes & 0x0F) << 3) + 0x84) << (codes >> 4 & 7)) - 0x84
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int32)


def _alaw(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """ITU-T G.711, table 1."""
    codes = codes ^ 0x55
    exponent, mantissa = codes >> 4 & 7, (codes & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int32)


_FORMATS: dict[str, Callable[[], _Format]] = {
    "pcm8": _scaled("u1", 128, middle=128),
    "pcm16": _scaled("<i2", 2**15),
    "pcm24": _pcm24,
    "pcm32": _scaled("<i4", 2**31),
    "float32": _scaled("<f4", 1),
    "float64": _scaled("<f8", 1),
    "mulaw": _companded(_mulaw),
    "alaw": _companded(_alaw),
}


def _check(rate: int, channels: int) -> None:
    if rate not in RATES:
        raise BadAudio(f"a sample rate of {rate} Hz is out of range")
    if channels not in CHANNELS:
        raise BadAudio(f"audio with {channels} channels cannot be read")


def _joined(pieces: list[Samples]) -> Samples:
    filled = [piece for piece in pieces if len(piece)]
    if len(filled) == 1:
        return filled[0]
    return np.concatenate(filled) if filled else np.empty(0, np.float32)
