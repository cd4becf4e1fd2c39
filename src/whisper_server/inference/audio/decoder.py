"""Any upload -> float32 mono 16 kHz, safely.

FFmpeg is told which containers and decoders it may use: only those that carry audio themselves. Left to guess, it
also opens playlists, concatenation scripts and session descriptions, which make it read other files and sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import RawIOBase
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import InputContainer
from numpy.typing import NDArray

from whisper_server.core.errors import AudioTooLong, BadAudio
from whisper_server.inference.audio.truncated_mp4 import without_cut_box
from whisper_server.inference.request_context import RequestContext

SAMPLE_RATE = 16_000
CONTAINERS = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv",
    "gsm", "matroska", "mov", "mp3", "mpeg", "mpegts", "ogg", "tta", "voc", "w64", "wav", "wv",
)  # fmt: skip
# Their headers often hold a made-up length (a recorder that writes to a pipe cannot know it), so it says nothing.
_UNRELIABLE_DURATION = {"wav", "w64", "aiff", "au", "caf"}
_SAMPLE_RATES = range(1_000, 768_001)
_BLOCK = 1 << 22


class AudioDecoder:
    def __init__(self, *, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._options = {
            "format_whitelist": ",".join(CONTAINERS),
            "protocol_whitelist": "none",
            "codec_whitelist": ",".join(_audio_decoders()),
        }

    def decode(self, file: BinaryIO, context: RequestContext) -> NDArray[np.float32]:
        """Return the samples, in -1..1, shape (n,), of the best audio track; n is 0 if the track is empty.

        The same numbers as `faster_whisper.decode_audio`, which like openai-whisper goes through 16-bit integers.
        Holds the samples plus a constant. Raises BadAudio, AudioTooLong or Cancelled.
        """
        try:
            with self._open(file) as container:
                return self._decode_container(container, context)
        except (av.FFmpegError, OSError) as exc:
            raise BadAudio(_reason(file)) from exc

    def _open(self, file: BinaryIO) -> InputContainer:
        """The file, or what is whole of an MP4 that ends in the middle of a box."""
        try:
            return self._container(file)
        except av.InvalidDataError:
            whole = without_cut_box(file)
            if whole is None:
                raise
            return self._container(whole)

    def _container(self, file: BinaryIO | RawIOBase) -> InputContainer:
        return av.open(file, mode="r", metadata_errors="ignore", options=self._options)

    def _decode_container(self, container: InputContainer, context: RequestContext) -> NDArray[np.float32]:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise BadAudio("the file has no audio track")
        if stream.codec_context is None:
            raise BadAudio("the file's audio track is of a kind that this server cannot decode")
        stream.codec_context.thread_count = 1
        if _declared_seconds(container) > self._max_seconds:
            raise AudioTooLong(self._max_seconds)
        recording = _Recording(self._max_seconds)
        frames = _Frames(container, stream)
        for block in _resampled(frames):
            context.check()
            recording.append(block)
        if not recording.seconds and frames.damaged:
            raise BadAudio("the file's audio is damaged: nothing in it could be decoded")
        return recording.samples()


def _audio_decoders() -> list[str]:
    """The names of FFmpeg's audio decoders, so that the pictures of a video are never decoded."""
    return [name for name in sorted(av.codecs_available) if _is_audio_decoder(name)]


def _is_audio_decoder(name: str) -> bool:
    try:
        return Codec(name, "r").type == "audio"
    except ValueError:
        return False


def _declared_seconds(container: InputContainer) -> float:
    if container.duration is None or container.format.name in _UNRELIABLE_DURATION:
        return 0.0
    return container.duration / av.time_base


def _reason(file: BinaryIO) -> str:
    if not file.seek(0, 2):
        return "the file is empty"
    return "the file is not audio in a format that this server can read, or its beginning is damaged"


class _Frames:
    """The frames of a track that can be decoded; remembers whether there were others."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._container = container
        self._stream = stream
        self.damaged = False

    def __iter__(self) -> Iterator[AudioFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, IndexError):
                # An IndexError is PyAV's answer to a track that first appears in the middle of the file.
                self.damaged = True
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged = True
                continue
            for frame in frames:
                if isinstance(frame, AudioFrame):
                    yield frame


def _resampled(frames: _Frames) -> Iterator[NDArray[np.int16]]:
    """16 kHz mono blocks. The layout may change within a file: each layout has a resampler of its own."""
    resampler = _new_resampler()
    layout = None
    for frame in frames:
        if frame.sample_rate not in _SAMPLE_RATES:
            raise BadAudio(f"the file's sample rate, {frame.sample_rate} Hz, is out of range")
        if layout not in (None, _layout(frame)):
            yield from _converted(resampler, None)
            resampler = _new_resampler()
        layout = _layout(frame)
        frame.pts = None
        yield from _converted(resampler, frame)
    if layout is not None:
        yield from _converted(resampler, None)


def _new_resampler() -> AudioResampler:
    return AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


def _layout(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _converted(resampler: AudioResampler, frame: AudioFrame | None) -> Iterator[NDArray[np.int16]]:
    for converted in resampler.resample(frame):
        yield converted.to_ndarray()[0]


class _Recording:
    """float32 samples that grow in place: `realloc` moves pages, so the samples are never held twice."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._samples = np.empty(0, np.float32)
        self._length = 0

    @property
    def seconds(self) -> float:
        return self._length / SAMPLE_RATE

    def append(self, block: NDArray[np.int16]) -> None:
        start, self._length = self._length, self._length + len(block)
        if self.seconds > self._max_seconds:
            raise AudioTooLong(self._max_seconds)
        if self._length > len(self._samples):
            blocks = -(-self._length // _BLOCK)
            self._samples.resize(blocks * _BLOCK, refcheck=False)
        np.divide(block, np.float32(32768), out=self._samples[start : self._length])

    def samples(self) -> NDArray[np.float32]:
        self._samples.resize(self._length, refcheck=False)
        return self._samples
