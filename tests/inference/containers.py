"""Encodes audio in every container format that the server supports, with PyAV."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recipe:
    """FFmpeg's muxer, encoder and sample rate for a file; `picture` adds a video track."""

    muxer: str
    codec: str
    rate: int = 16_000
    layout: str = "mono"
    picture: bool = False
    experimental: bool = False
    bit_rate: int = 0


RECIPES = {
    "wav": Recipe("wav", "pcm_s16le"),
    "float.wav": Recipe("wav", "pcm_f32le", 48_000, "stereo"),
    "8-channels-192k.wav": Recipe("wav", "pcm_s24le", 192_000, "7.1"),
    "adpcm.wav": Recipe("wav", "adpcm_ms"),
    "mulaw.wav": Recipe("wav", "pcm_mulaw", 8_000),
    "w64": Recipe("w64", "pcm_s16le"),
    "aiff": Recipe("aiff", "pcm_s16be", 44_100, "stereo"),
    "au": Recipe("au", "pcm_s16be"),
    "caf": Recipe("caf", "pcm_s16le"),
    "voc": Recipe("voc", "pcm_s16le"),
    "flac": Recipe("flac", "flac"),
    "ogg": Recipe("ogg", "vorbis", 44_100, "stereo", experimental=True),
    "opus": Recipe("ogg", "libopus", 48_000),
    "mp3": Recipe("mp3", "libmp3lame", 44_100, "stereo"),
    "mp2": Recipe("mp2", "mp2", 44_100),
    "aac": Recipe("adts", "aac", 44_100),
    "m4a": Recipe("ipod", "aac", 44_100, "stereo"),
    "alac.m4a": Recipe("ipod", "alac"),
    "mp4": Recipe("mp4", "aac", 44_100, picture=True),
    "mov": Recipe("mov", "pcm_s16le", 44_100, picture=True),
    "3gp": Recipe("3gp", "libopencore_amrnb", 8_000),
    "amr": Recipe("amr", "libopencore_amrnb", 8_000),
    "webm": Recipe("webm", "libopus", 48_000),
    "mkv": Recipe("matroska", "flac", picture=True),
    "avi": Recipe("avi", "libmp3lame", 44_100, picture=True),
    "flv": Recipe("flv", "aac", 44_100),
    "wma": Recipe("asf", "wmav2", 44_100, "stereo", bit_rate=128_000),
    "ts": Recipe("mpegts", "aac", 44_100),
    "mpg": Recipe("mpeg", "mp2", 44_100),
    "ac3": Recipe("ac3", "ac3", 48_000),
    "eac3": Recipe("eac3", "eac3", 48_000),
    "wv": Recipe("wv", "wavpack"),
    "tta": Recipe("tta", "tta"),
}


# Their index, without which the file cannot be read, is at the end unless the file is written in fragments.
_INDEX_AT_THE_END = {"ipod", "3gp", "mp4", "mov"}
FRAGMENTS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "200000"}


def encode(samples: NDArray[np.float32], recipe: Recipe, *, options: dict[str, str] | None = None) -> bytes:
    """Return a file with these 16 kHz samples."""
    file = io.BytesIO()
    with av.open(file, "w", format=recipe.muxer, options=options or {}) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.rate)
        assert isinstance(stream, AudioStream)
        stream.layout = recipe.layout
        if recipe.bit_rate:
            stream.bit_rate = recipe.bit_rate
        if recipe.experimental:
            stream.codec_context.options = {"strict": "experimental"}
        if recipe.picture:
            _add_picture(container)
        for frame in _frames(samples):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _add_picture(container: av.container.OutputContainer) -> None:
    picture = container.add_stream("mpeg4", rate=10)
    picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
    black = np.zeros((96, 64), np.uint8)  # a new frame is not initialised
    for _ in range(10):
        container.mux(picture.encode(av.VideoFrame.from_ndarray(black, "yuv420p")))
    container.mux(picture.encode(None))


def _frames(samples: NDArray[np.float32]) -> Iterator[av.AudioFrame]:
    integers = (samples[None] * 32767).astype(np.int16)
    for start in range(0, integers.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(integers[:, start : start + 1024], "s16", "mono")
        frame.sample_rate = 16_000
        frame.pts = start
        yield frame


def tone(seconds: float) -> NDArray[np.float32]:
    """Return a 440 Hz tone at half volume."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)


def without_tail(samples: NDArray[np.float32], recipe: Recipe) -> bytes:
    """Return the first 70 % of the file's bytes."""
    file = encode(samples, recipe, options=FRAGMENTS if recipe.muxer in _INDEX_AT_THE_END else {})
    return file[: len(file) * 7 // 10]


def mutated(rng: random.Random, file: bytes) -> bytes:
    """Return the file damaged at random: flipped bits, truncation, a gap, a wrong length, repeated or extra bytes."""
    data, size = bytearray(file), len(file)
    at = rng.randrange(size)
    match rng.choice(["flip", "header", "cut", "gap", "length", "repeat", "insert"]):
        case "flip":
            for _ in range(rng.randint(1, 200)):
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case "header":
            for _ in range(rng.randint(1, 16)):
                data[rng.randrange(min(size, 400))] = rng.randrange(256)
        case "cut":
            del data[at:]
        case "gap":
            gap = data[at : at + rng.randint(1, 4000)]
            data[at : at + len(gap)] = bytes(len(gap))
        case "length":
            at = rng.randrange(min(size, 2000))
            data[at : at + 4] = b"\xff\xff\xff\xff"
        case "repeat":
            data[at:at] = data[at : at + rng.randint(1, 5000)]
        case "insert":
            data[at:at] = rng.randbytes(rng.randint(1, 100))
    return bytes(data)
