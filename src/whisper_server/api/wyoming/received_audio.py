"""The audio of one utterance, collected as 16-bit samples at 16 kHz while it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from whisper_server.core.errors import AudioTooLong, BadAudio, BadMessage
from whisper_server.inference.audio.waveform import SAMPLE_RATE, SpooledWaveform
from whisper_server.live.pcm_stream import FormatDecoder, check_format
from whisper_server.live.wav_stream import PCMFormat

# By the bytes of a sample.
_ENCODINGS: Mapping[int, str] = {1: "pcm8", 2: "pcm16", 3: "pcm24", 4: "pcm32"}
_WAVEFORM_FORMAT = PCMFormat("pcm16", SAMPLE_RATE, 1)
_SAMPLE_BYTES = 2
# What is collected before it goes to the waveform, which may write it to a file: half a minute.
_BLOCK_BYTES = 2**20


class ReceivedAudio:
    """Owns `waveform`, which is complete after `finish()`; `max_seconds` limits it."""

    def __init__(self, *, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._decoder: _SampleDecoder | None = None
        self._block = bytearray()
        self.waveform = SpooledWaveform()
        self.bytes_received = 0

    async def append(self, data: bytes, format: PCMFormat) -> None:
        """Add a part of a chunk; raises BadAudio, AudioTooLong or UploadNotStored."""
        self.bytes_received += len(data)
        if self._decoder is None or self._decoder.format != format:
            decoder = _SampleDecoder(format)
            self._end_format()
            self._decoder = decoder
        self._add(self._decoder.decode(data))
        if len(self.waveform) + len(self._block) // _SAMPLE_BYTES > self._max_seconds * SAMPLE_RATE:
            raise AudioTooLong(self._max_seconds)
        if len(self._block) >= _BLOCK_BYTES:
            await to_thread.run_sync(self._store)

    async def finish(self) -> SpooledWaveform:
        """Return the waveform; raises UploadNotStored."""
        self._end_format()
        if self._block:
            await to_thread.run_sync(self._store)
        return self.waveform

    def close(self) -> None:
        self.waveform.close()

    def _end_format(self) -> None:
        if self._decoder is not None:
            self._add(self._decoder.close())
            self._decoder = None

    def _add(self, samples: NDArray[np.int16]) -> None:
        self._block += samples.tobytes()

    def _store(self) -> None:
        block, self._block = self._block, bytearray()
        self.waveform.append(np.frombuffer(block, np.int16))


class _SampleDecoder:
    """Decodes one format to 16-bit samples; those of 16 bits at 16 kHz stay as they are."""

    def __init__(self, format: PCMFormat) -> None:
        self.format = format
        self._incomplete = b""
        self._converter = FormatDecoder(format) if format != _WAVEFORM_FORMAT else None

    def decode(self, data: bytes) -> NDArray[np.int16]:
        if self._converter is not None:
            return _to_int16(self._converter.decode(data))
        data = self._incomplete + data
        complete = len(data) - len(data) % 2
        self._incomplete = data[complete:]
        return np.frombuffer(data[:complete], "<i2").astype(np.int16, copy=False)

    def close(self) -> NDArray[np.int16]:
        return _to_int16(self._converter.close()) if self._converter is not None else np.empty(0, np.int16)


def _to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def parse_format(data: Mapping[str, Any]) -> PCMFormat:
    """Return the format in the data of an event; raises BadMessage or BadAudio."""
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    if type(rate) is not int or type(width) is not int or type(channels) is not int:
        raise BadMessage("audio needs a rate, a width and channels, which are whole numbers")
    if width not in _ENCODINGS:
        raise BadAudio(f"samples of {width} bytes cannot be read; those of 1 to 4 bytes can")
    check_format(rate, channels)
    return PCMFormat(_ENCODINGS[width], rate, channels)
