from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from whisper_server.core.errors import BadAudio
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.raw_pcm import as_wav
from whisper_server.inference.request_context import RequestContext

SAMPLES = np.arange(-8000, 8000, dtype="<i2")


def test_it_is_a_wav_file_of_the_samples() -> None:
    with wave.open(as_wav(io.BytesIO(SAMPLES.tobytes()))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.readframes(file.getnframes()) == SAMPLES.tobytes()


def test_it_can_be_read_from_any_position() -> None:
    file = as_wav(io.BytesIO(SAMPLES.tobytes()))
    content = file.read()
    assert len(content) == 44 + SAMPLES.nbytes
    for position in (0, 10, 43, 44, 45, 1000):
        assert file.seek(position) == file.tell() == position
        assert file.read(100) == content[position : position + 100]
        assert file.seek(5, io.SEEK_CUR) == position + 105
    assert file.seek(-4, io.SEEK_END) == len(content) - 4
    assert file.read() == content[-4:]
    assert file.read() == b""


def test_the_decoder_returns_the_samples() -> None:
    with AudioDecoder(max_seconds=60).decode(as_wav(io.BytesIO(SAMPLES.tobytes())), RequestContext()) as waveform:
        assert np.array_equal(waveform[:] * 32768, SAMPLES)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(BadAudio, match="empty"):
        as_wav(io.BytesIO())
