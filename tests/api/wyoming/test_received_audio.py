from __future__ import annotations

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from whisper_server.api.wyoming.received_audio import ReceivedAudio
from whisper_server.core.errors import AudioTooLong
from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.live.wav_stream import PCMFormat

TONE = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE) / 2
PCM16 = PCMFormat("pcm16", SAMPLE_RATE, 1)
AS_16_BITS = np.rint(TONE * 32768).astype("<i2")


def received(*parts: tuple[bytes, PCMFormat], max_seconds: float = 3600) -> NDArray[np.float32]:
    """The waveform of these parts."""

    async def receive() -> NDArray[np.float32]:
        audio = ReceivedAudio(max_seconds=max_seconds)
        for data, format in parts:
            await audio.append(data, format)
        with await audio.finish() as waveform:
            return waveform[:]

    return anyio.run(receive)


def test_16_bits_at_16_khz_stay_as_they_are() -> None:
    pcm = AS_16_BITS.tobytes()
    parts = [(pcm[start : start + 777], PCM16) for start in range(0, len(pcm), 777)]
    assert np.array_equal(received(*parts), AS_16_BITS.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("samples", "format"),
    [
        (np.rint(TONE * 128 + 128), PCMFormat("pcm8", SAMPLE_RATE, 1)),
        (np.rint(TONE * 2**31), PCMFormat("pcm32", SAMPLE_RATE, 1)),
        (np.repeat(AS_16_BITS, 2), PCMFormat("pcm16", SAMPLE_RATE, 2)),
    ],
)
def test_other_widths_and_channels_give_the_same_waveform(samples: NDArray[np.float64], format: PCMFormat) -> None:
    dtype = {"pcm8": "u1", "pcm16": "<i2", "pcm32": "<i4"}[format.encoding]
    assert np.abs(received((samples.astype(dtype).tobytes(), format)) - TONE).max() < 0.01


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_keep_the_length_and_the_tone(rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate) * 16384
    waveform = received((tone.astype("<i2").tobytes(), PCMFormat("pcm16", rate, 1)))
    assert len(waveform) == pytest.approx(SAMPLE_RATE, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(waveform))) == pytest.approx(440, abs=1)


def test_the_format_may_change() -> None:
    half = AS_16_BITS[: SAMPLE_RATE // 2]
    stereo = (np.repeat(half, 2).tobytes(), PCMFormat("pcm16", SAMPLE_RATE, 2))
    waveform = received((half.tobytes(), PCM16), stereo, (half.tobytes(), PCM16))
    assert np.allclose(waveform, np.tile(half, 3).astype(np.float32) / 32768)


def test_the_limit_counts_all_parts() -> None:
    second = (AS_16_BITS.tobytes(), PCM16)
    assert len(received(second, second, max_seconds=2)) == 2 * SAMPLE_RATE
    with pytest.raises(AudioTooLong):
        received(second, second, second, max_seconds=2)


def test_long_audio_is_stored_in_blocks() -> None:
    parts = [(AS_16_BITS.tobytes(), PCM16)] * 70
    assert np.array_equal(received(*parts), np.tile(AS_16_BITS, 70).astype(np.float32) / 32768)
