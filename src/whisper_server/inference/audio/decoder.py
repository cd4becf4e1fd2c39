"""Decodes an upload to mono samples at 16 kHz, safely.

FFmpeg may use only the containers and decoders listed here, which contain the audio themselves. By default it also
opens playlists, concatenation scripts and session descriptions, which make it read other files and sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, groupby
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from whisper_server.core.errors import AudioTooLong, BadAudio
from whisper_server.inference.audio.ffmpeg_memory import limit_allocations
from whisper_server.inference.audio.truncated_mp4 import FilePrefix, without_truncated_box
from whisper_server.inference.audio.waveform import SAMPLE_RATE, SpooledWaveform
from whisper_server.inference.request_context import RequestContext

CONTAINERS = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv",
    "gsm", "matroska", "mov", "mp3", "mpeg", "mpegts", "ogg", "tta", "voc", "w64", "wav", "wv",
)  # fmt: skip
# The length in their headers is often wrong, as a recorder that writes to a pipe cannot know it.
_UNRELIABLE_DURATION = {"wav", "w64", "aiff", "au", "caf"}
_SAMPLE_RATES = range(1_000, 768_001)
_REPORT_INTERVAL = 60.0


class AudioDecoder:
    def __init__(self, *, max_seconds: float) -> None:
        limit_allocations()
        self._max_seconds = max_seconds
        self._options = {
            "format_whitelist": ",".join(CONTAINERS),
            "protocol_whitelist": "none",
            "codec_whitelist": ",".join(_audio_decoders()),
        }

    def decode(
        self, file: BinaryIO, context: RequestContext, on_decoded: Callable[[float], None] = lambda seconds: None
    ) -> SpooledWaveform:
        """Return the best audio track, to be closed by the caller; its length is 0 if the track is empty.

        The numbers equal those of `faster_whisper.decode_audio`, which converts to 16-bit integers first, as
        openai-whisper does. `on_decoded` gets the seconds that the file declares, and then those decoded so far; it may
        raise. Raises BadAudio, AudioTooLong, UploadNotStored or Cancelled.
        """
        waveform = SpooledWaveform()
        try:
            with self._open(file) as container:
                self._decode_container(container, waveform, context, on_decoded)
        except BaseException as exc:
            waveform.close()
            context.check()  # the file of a cancelled request may be closed while it is read
            if isinstance(exc, (av.FFmpegError, OSError)):
                raise BadAudio(_reason(file)) from exc
            raise
        return waveform

    def _open(self, file: BinaryIO) -> InputContainer:
        """Open the file; of an MP4 that ends in the middle of a box, only the complete boxes."""
        try:
            return self._container(file)
        except av.InvalidDataError:
            complete = without_truncated_box(file)
            if complete is None:
                raise
            return self._container(complete)

    def _container(self, file: BinaryIO | FilePrefix) -> InputContainer:
        return av.open(file, mode="r", metadata_errors="ignore", options=self._options)

    def _decode_container(
        self,
        container: InputContainer,
        waveform: SpooledWaveform,
        context: RequestContext,
        on_decoded: Callable[[float], None],
    ) -> None:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise BadAudio("the file has no audio track")
        if stream.codec_context is None:
            raise BadAudio("the file's audio track has a codec that this server cannot decode")
        stream.codec_context.thread_count = 1
        if (reported := _declared_seconds(container)) > self._max_seconds:
            raise AudioTooLong(self._max_seconds)
        on_decoded(reported)
        frames = _Frames(container, stream)
        for block in _resampled(frames):
            context.check()
            waveform.append(block)
            if waveform.seconds > self._max_seconds:
                raise AudioTooLong(self._max_seconds)
            if waveform.seconds - reported > _REPORT_INTERVAL:
                reported = waveform.seconds
                on_decoded(reported)
        if not len(waveform) and frames.damaged:
            raise BadAudio("the file's audio is damaged: nothing in it could be decoded")
        on_decoded(waveform.seconds)


def _audio_decoders() -> list[str]:
    """Return the names of FFmpeg's audio decoders, so that the pictures of a video are never decoded."""
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
    """Iterates over the frames of a track; skips those that cannot be decoded and sets `damaged`."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._container = container
        self._stream = stream
        self.damaged = False

    def __iter__(self) -> Iterator[AudioFrame]:
        try:
            for packet in self._container.demux(self._stream):
                yield from self._decoded(packet)
        except (av.FFmpegError, IndexError):
            # PyAV raises IndexError for a track that first appears in the middle of the file.
            self.damaged = True

    def _decoded(self, packet: Packet[AudioStream]) -> list[AudioFrame]:
        try:
            return [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
        except av.FFmpegError:
            self.damaged = True
            return []


def _resampled(frames: _Frames) -> Iterator[NDArray[np.int16]]:
    """Yield 16 kHz mono blocks; if the format changes within the file, a new resampler takes over."""
    for (_, _, sample_rate), consecutive in groupby(frames, _format):
        if sample_rate not in _SAMPLE_RATES:
            raise BadAudio(f"the file's sample rate, {sample_rate} Hz, is out of range")
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in chain(consecutive, [None]):  # None flushes the resampler
            if frame is not None:
                frame.pts = None
            for resampled in resampler.resample(frame):
                yield resampled.to_ndarray()[0]


def _format(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
