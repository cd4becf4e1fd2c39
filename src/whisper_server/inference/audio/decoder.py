"""Decodes an upload to samples at 16 kHz, mixed to mono or by channel, safely.

FFmpeg may use only the containers and decoders listed here, which contain the audio themselves. By default it also
opens playlists, concatenation scripts and session descriptions, which make it read other files and sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, groupby, islice
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
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
_MONO = AudioLayout("mono")
# Deepgram's limit as well.
_MAX_CHANNELS = 20


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
        (mono,) = self._decode(file, context, on_decoded, mix=True)
        return mono

    def decode_channels(
        self, file: BinaryIO, context: RequestContext, on_decoded: Callable[[float], None] = lambda seconds: None
    ) -> list[SpooledWaveform]:
        """As `decode()`, with a waveform for each channel; the seconds and their limit are those of all together."""
        return self._decode(file, context, on_decoded, mix=False)

    def _decode(
        self, file: BinaryIO, context: RequestContext, on_decoded: Callable[[float], None], *, mix: bool
    ) -> list[SpooledWaveform]:
        waveforms: list[SpooledWaveform] = []
        try:
            with self._open(file) as container:
                self._decode_container(container, waveforms, context, on_decoded, mix=mix)
        except BaseException as exc:
            for waveform in waveforms:
                waveform.close()
            context.check()  # the file of a cancelled request may be closed while it is read
            if isinstance(exc, (av.FFmpegError, OSError)):
                raise BadAudio(_reason(file)) from exc
            raise
        return waveforms

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
        waveforms: list[SpooledWaveform],
        context: RequestContext,
        on_decoded: Callable[[float], None],
        *,
        mix: bool,
    ) -> None:
        """Add the waveforms to the list, and then their samples."""
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise BadAudio("the file has no audio track")
        if stream.codec_context is None:
            raise BadAudio("the file's audio track has a codec that this server cannot decode")
        stream.codec_context.thread_count = 1
        frames = _Frames(container, stream)
        layout = _MONO if mix else frames.layout()
        if (channels := layout.nb_channels) > _MAX_CHANNELS:
            raise BadAudio(f"the file has {channels} channels; at most {_MAX_CHANNELS} can be transcribed separately")
        waveforms += (SpooledWaveform(channels=channels) for _ in range(channels))
        if (reported := _declared_seconds(container) * channels) > self._max_seconds:
            raise AudioTooLong(self._max_seconds)
        on_decoded(reported)
        for block in _resampled(frames, layout):
            context.check()
            for waveform, samples in zip(waveforms, block, strict=True):
                waveform.append(samples)
            if (seconds := waveforms[0].seconds * channels) > self._max_seconds:
                raise AudioTooLong(self._max_seconds)
            if seconds - reported > _REPORT_INTERVAL:
                reported = seconds
                on_decoded(reported)
        if not len(waveforms[0]) and frames.damaged:
            raise BadAudio("the file's audio is damaged: nothing in it could be decoded")
        on_decoded(waveforms[0].seconds * channels)


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
        self._peeked: list[AudioFrame] = []
        self._frames = self._decode()
        self.damaged = False

    def __iter__(self) -> Iterator[AudioFrame]:
        yield from self._peeked
        yield from self._frames

    def layout(self) -> AudioLayout:
        """Return the channels of the first frame, which the header may not know; call it before iterating."""
        self._peeked = list(islice(self._frames, 1))
        return self._peeked[0].layout if self._peeked else _MONO

    def _decode(self) -> Iterator[AudioFrame]:
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


def _resampled(frames: _Frames, layout: AudioLayout) -> Iterator[NDArray[np.int16]]:
    """Yield blocks at 16 kHz, shape (channels, n); if the format changes within the file, another resampler starts."""
    for (_, _, sample_rate), consecutive in groupby(frames, _format):
        if sample_rate not in _SAMPLE_RATES:
            raise BadAudio(f"the file's sample rate, {sample_rate} Hz, is out of range")
        resampler = AudioResampler(format="s16", layout=layout, rate=SAMPLE_RATE)
        for frame in chain(consecutive, [None]):  # None flushes the resampler
            if frame is not None:
                frame.pts = None
            for resampled in resampler.resample(frame):
                # Packed samples, as PyAV crashes when it looks for the planes of 8 channels or more.
                packed = resampled.to_ndarray()[0].astype(np.int16, copy=False)
                yield packed.reshape(-1, layout.nb_channels).T


def _format(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
