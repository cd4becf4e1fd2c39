"""Decodes the bytes of live audio, in chunks of any size, to mono float32 samples at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from whisper_server.core.errors import BadAudio
from whisper_server.inference.audio.waveform import SAMPLE_RATE as SAMPLE_RATE
from whisper_server.inference.audio.waveform import Samples as Samples
from whisper_server.live.wav_stream import PCMFormat, WAVStreamParser

# Sample rates in Hz and numbers of channels that are accepted: those of telephones to those of studios.
RATES = range(4_000, 384_001)
CHANNELS = range(1, 17)

# `auto` is a WAV if it starts like one, and pcm16 otherwise.
Encoding = Literal["auto", "wav", "pcm16", "float32", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

# The first bytes of containers, which are refused: a library that guesses the format of what it opens can be made to
# read other files and sockets.
_CONTAINERS = {
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3\x03": "MP3",
    b"ID3\x04": "MP3",
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"FORM": "AIFF",
}
_MAGIC_BYTES = 4
_NO_SAMPLES: Samples = np.empty(0, np.float32)


class PCMStreamDecoder:
    """One client's audio. `rate` in Hz and `channels` describe raw samples; a WAV has its own."""

    def __init__(self, rate: int = SAMPLE_RATE, encoding: Encoding = "auto", channels: int = 1) -> None:
        check_format(rate, channels)
        self._raw_format = PCMFormat("pcm16" if encoding in ("auto", "wav") else encoding, rate, channels)
        self._encoding = encoding
        self._started = False
        self._first_bytes = b""
        self._wav: WAVStreamParser | None = None
        self._decoder: FormatDecoder | None = None

    def decode(self, data: bytes) -> Samples:
        """Return the samples that these bytes complete, in -1..1, shape (n,); raises BadAudio."""
        if not self._started:
            self._first_bytes += data
            if len(self._first_bytes) < _MAGIC_BYTES:
                return _NO_SAMPLES
            data, self._first_bytes = self._first_bytes, b""
            self._start(data[:_MAGIC_BYTES])
        chunks = [(self._raw_format, data)] if self._wav is None else self._wav.split(data)
        return _concatenate([self._decode(format, payload) for format, payload in chunks])

    def close(self) -> Samples:
        """Return the samples that the resampler still holds; raises BadAudio if a WAV ended within its header."""
        if self._wav is not None and self._decoder is None:
            raise BadAudio("the WAV ended within its header")
        return self._decoder.close() if self._decoder is not None else _NO_SAMPLES

    def _start(self, magic: bytes) -> None:
        self._started = True
        if magic in (b"RIFF", b"RF64") and self._encoding in ("auto", "wav"):
            self._wav = WAVStreamParser()
        elif magic in _CONTAINERS:
            raise BadAudio(f"this is {_CONTAINERS[magic]}; live audio is a WAV or raw samples")
        elif self._encoding == "wav":
            raise BadAudio("this is no WAV: it does not begin with RIFF")

    def _decode(self, format: PCMFormat, payload: bytes) -> Samples:
        previous = _NO_SAMPLES
        if self._decoder is None or self._decoder.format != format:
            check_format(format.rate, format.channels)
            if self._decoder is not None:
                previous = self._decoder.close()
            self._decoder = FormatDecoder(format)
        return _concatenate([previous, self._decoder.decode(payload)])


class FormatDecoder:
    """Decodes, mixes and resamples audio of one format, which `check_format()` accepts."""

    def __init__(self, format: PCMFormat) -> None:
        self.format = format
        self._codec = _CODECS[format.encoding]
        self._incomplete = b""
        self._resampler: AudioResampler | None = None

    def decode(self, data: bytes) -> Samples:
        data = self._incomplete + data
        channels = self.format.channels
        complete = len(data) - len(data) % (self._codec.width * channels)
        self._incomplete = data[complete:]
        samples = self._codec.decode(data[:complete])
        if not np.isfinite(samples).all():
            raise BadAudio("some of the samples are not numbers; is their encoding another one?")
        mono = samples.reshape(-1, channels).mean(axis=1) if channels > 1 else samples
        clipped: Samples = np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)
        if self.format.rate == SAMPLE_RATE or not len(clipped):
            return clipped
        if self._resampler is None:
            self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(clipped[None]), format="flt", layout="mono")
        frame.sample_rate = self.format.rate
        return _resample(self._resampler, frame)

    def close(self) -> Samples:
        return _NO_SAMPLES if self._resampler is None else _resample(self._resampler, None)


def _resample(resampler: AudioResampler, frame: AudioFrame | None) -> Samples:
    """Return the samples at 16 kHz; the resampler keeps its state, so that chunks give the samples of the whole."""
    return _concatenate([converted.to_ndarray()[0] for converted in resampler.resample(frame)])


@dataclass(frozen=True, slots=True)
class _Codec:
    """`decode` converts samples of `width` bytes each to float32."""

    width: int
    decode: Callable[[bytes], NDArray[Any]]


def _linear(dtype: str, scale: float, zero: float = 0.0) -> _Codec:
    def decode(data: bytes) -> NDArray[Any]:
        return (np.frombuffer(data, dtype).astype(np.float32) - np.float32(zero)) / np.float32(scale)

    return _Codec(np.dtype(dtype).itemsize, decode)


def _pcm24(data: bytes) -> NDArray[Any]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)


def _mulaw(data: bytes) -> NDArray[Any]:
    """ITU-T G.711, table 2."""
    codes = ~np.frombuffer(data, np.uint8).astype(np.int32) & 0xFF
    magnitude = ((((codes & 0x0F) << 3) + 0x84) << (codes >> 4 & 7)) - 0x84
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.float32) / np.float32(2**15)


def _alaw(data: bytes) -> NDArray[Any]:
    """ITU-T G.711, table 1."""
    codes = np.frombuffer(data, np.uint8).astype(np.int32) ^ 0x55
    exponent, mantissa = codes >> 4 & 7, (codes & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.float32) / np.float32(2**15)


_CODECS: dict[str, _Codec] = {
    "pcm8": _linear("u1", 128, zero=128),
    "pcm16": _linear("<i2", 2**15),
    "pcm24": _Codec(3, _pcm24),
    "pcm32": _linear("<i4", 2**31),
    "float32": _linear("<f4", 1),
    "float64": _linear("<f8", 1),
    "mulaw": _Codec(1, _mulaw),
    "alaw": _Codec(1, _alaw),
}


def check_format(rate: int, channels: int) -> None:
    """Raises BadAudio for a sample rate in Hz or a number of channels out of range."""
    if rate not in RATES:
        raise BadAudio(f"a sample rate of {rate} Hz is out of range")
    if channels not in CHANNELS:
        raise BadAudio(f"audio with {channels} channels cannot be read")


def _concatenate(chunks: list[Samples]) -> Samples:
    filled = [chunk for chunk in chunks if len(chunk)]
    if len(filled) == 1:
        return filled[0]
    return np.concatenate(filled) if filled else _NO_SAMPLES
