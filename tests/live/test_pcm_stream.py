from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import av
import numpy as np
import pytest
from inference.containers import RECIPES, encode, tone
from numpy.typing import NDArray
from recorder import ALAW, EXTENSIBLE, FLOAT, MULAW, pcm16, wav, wav_header

from whisper_server.core.errors import BadAudio
from whisper_server.live.pcm_stream import Encoding, PCMStreamDecoder

Samples = NDArray[np.float32]
TONE = tone(0.25)


def decoded(decoder: PCMStreamDecoder, chunks: Sequence[bytes]) -> Samples:
    return np.concatenate([*(decoder.decode(chunk) for chunk in chunks), decoder.close()])


def chunks(data: bytes, seed: int, max_size: int = 4000) -> list[bytes]:
    rng = random.Random(seed)
    cuts, at = [0], 0
    while at < len(data):
        at += rng.randint(1, max_size)
        cuts.append(min(at, len(data)))
    return [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def wave_of(rate: int, seconds: float = 0.5, hertz: float = 440) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def test_pcm16_at_16_khz_is_only_scaled() -> None:
    values = np.array([0, 1, -1, 32767, -32768], "<i2")
    np.testing.assert_array_equal(PCMStreamDecoder().decode(values.tobytes()), (values / 32768).astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_may_be_split_anywhere(seed: int) -> None:
    data = pcm16(TONE)
    assert decoded(PCMStreamDecoder(), chunks(data, seed, 7)).tobytes() == PCMStreamDecoder().decode(data).tobytes()


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seed", range(3))
def test_resampling_chunks_gives_the_samples_of_the_whole(rate: int, seed: int) -> None:
    data = pcm16(wave_of(rate))
    whole = decoded(PCMStreamDecoder(rate, "pcm16"), [data])
    chunked = decoded(PCMStreamDecoder(rate, "pcm16"), chunks(data, seed))
    assert len(whole) == pytest.approx(8_000, abs=2)
    np.testing.assert_allclose(chunked, whole, atol=1e-6)


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_resampling_keeps_the_tone_and_does_not_alias(rate: int) -> None:
    samples = decoded(PCMStreamDecoder(rate, "pcm16"), [pcm16(wave_of(rate))])[500:-500]
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    above = decoded(PCMStreamDecoder(rate, "pcm16"), [pcm16(wave_of(rate, hertz=9_500))])[500:-500]
    assert np.abs(above).max() < 0.05


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_g711_is_expanded_as_ffmpeg_does(encoding: Encoding, codec: str) -> None:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout = 16_000, "mono"
    every = bytes(range(256))
    (frame,) = context.decode(av.Packet(every))
    expected = (frame.to_ndarray()[0] / 32768).astype(np.float32)
    np.testing.assert_array_equal(PCMStreamDecoder(16_000, encoding).decode(every), expected)


def test_g711_at_8_khz_is_resampled() -> None:
    samples = decoded(PCMStreamDecoder(8_000, "mulaw"), [b"\xff" * 800])
    assert len(samples) == pytest.approx(1_600, abs=2)
    assert np.abs(samples).max() < 1e-4


def test_float32_is_clipped() -> None:
    values = np.array([0, 0.25, -1, 1.5, -7], "<f4")
    np.testing.assert_array_equal(
        PCMStreamDecoder(16_000, "float32").decode(values.tobytes()), np.array([0, 0.25, -1, 1, -1], np.float32)
    )


def test_samples_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(BadAudio, match="not numbers"):
        PCMStreamDecoder(16_000, "float32").decode(np.array([np.nan], "<f4").tobytes())


def test_channels_are_mixed() -> None:
    both = np.stack([TONE, -TONE / 2], axis=1)
    samples = PCMStreamDecoder(16_000, "pcm16", channels=2).decode(pcm16(both))
    np.testing.assert_allclose(samples, TONE / 4, atol=1e-4)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, None], ids=str)
def test_a_growing_wav_may_be_split_anywhere(size: int | None) -> None:
    data = wav(pcm16(TONE[:100]), size=size)
    expected = PCMStreamDecoder().decode(pcm16(TONE[:100]))
    for at in range(len(data)):
        np.testing.assert_array_equal(decoded(PCMStreamDecoder(), [data[:at], data[at:]]), expected, str(at))
    np.testing.assert_array_equal(decoded(PCMStreamDecoder(), [data[i : i + 1] for i in range(len(data))]), expected)


@pytest.mark.parametrize(
    ("header", "dtype", "scale"),
    [
        ({"bits": 8}, "u1", 0),
        ({"bits": 32}, "<i4", 2**31),
        ({"bits": 32, "tag": FLOAT}, "<f4", 1),
        ({"bits": 64, "tag": FLOAT}, "<f8", 1),
        ({"tag": EXTENSIBLE}, "<i2", 2**15),
        ({"bits": 8, "tag": MULAW}, "u1", 0),
        ({"bits": 8, "tag": ALAW}, "u1", 0),
    ],
    ids=str,
)
def test_the_formats_of_recorders_are_read(header: dict[str, int], dtype: str, scale: int) -> None:
    values = np.frombuffer(random.Random(1).randbytes(80), "u1")
    data = (TONE[:80] * scale).astype(dtype).tobytes() if scale else values.tobytes()
    samples = decoded(PCMStreamDecoder(), [wav(data, **header)])
    assert len(samples) == 80
    if scale:
        np.testing.assert_allclose(samples, TONE[:80], atol=1e-4)


def test_a_wav_of_24_bits_is_read() -> None:
    values = [0, 2**23 - 1, -(2**23), 256]
    data = b"".join(struct.pack("<i", value)[:3] for value in values)
    samples = decoded(PCMStreamDecoder(), [wav(data, bits=24)])
    np.testing.assert_allclose(samples, np.array(values) / 2**23, atol=1e-6)


def test_a_wav_has_its_own_rate_and_channels() -> None:
    data = wav(pcm16(np.stack([wave_of(44_100)] * 2, axis=1)), rate=44_100, channels=2, size=0)
    assert len(decoded(PCMStreamDecoder(16_000, "auto"), chunks(data, 1))) == pytest.approx(8_000, abs=2)


def test_other_chunks_of_a_wav_are_skipped() -> None:
    data = wav(pcm16(TONE[:100]))
    with_list = data[:36] + b"LIST" + struct.pack("<I", 5) + b"INFOx\0" + data[36:] + b"LIST" + struct.pack("<I", 4)
    for seed in range(20):
        assert len(decoded(PCMStreamDecoder(), chunks(with_list + b"INFO", seed, 30))) == 100


def test_one_wav_may_follow_another() -> None:
    data = wav(pcm16(TONE[:100])) + wav(pcm16(wave_of(48_000)), rate=48_000)
    for seed in range(5):
        assert len(decoded(PCMStreamDecoder(), chunks(data, seed, 200))) == pytest.approx(8_100, abs=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (wav(b"", tag=17, bits=4), "format 17 with 4 bits"),
        (wav(b"12", rate=1), "sample rate of 1 Hz"),
        (wav(b"12", channels=0), "0 channels"),
        (wav_header(size=0)[:12] + b"data\0\0\0\0", "before their format"),
        (wav_header(size=0)[:12] + b"fmt \2\0\0\0\0\0", "header is damaged"),
        (wav_header(size=0)[:12] + b"\xff" * 8, "header is damaged"),
        (b"RIFF\0\0\0\0AVI LIST", "another kind of RIFF"),
        (b"OggS" + bytes(100), "this is Ogg"),
        (b"\x1aE\xdf\xa3" + bytes(100), "this is WebM"),
        (b"fLaC" + bytes(100), "this is FLAC"),
        (b"ID3\x04" + bytes(100), "this is MP3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_containers_and_damaged_headers_are_refused(data: bytes, message: str) -> None:
    for cut in (1, 3, 5, 30):
        with pytest.raises(BadAudio, match=message):
            decoded(PCMStreamDecoder(), [data[:cut], data[cut:]])


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"wav", "float.wav", "8-channels-192k.wav", "mulaw.wav"}))
def test_no_container_is_ever_opened(name: str) -> None:
    """Containers that are not recognised are decoded as noise at worst."""
    decoder = PCMStreamDecoder()
    try:
        decoded(decoder, [encode(TONE, RECIPES[name])])
    except BadAudio as exc:
        assert "this is" in str(exc) or "cannot be read" in str(exc)


def test_the_encoding_wav_requires_a_wav() -> None:
    with pytest.raises(BadAudio, match="does not begin with RIFF"):
        PCMStreamDecoder(encoding="wav").decode(bytes(8))


def test_a_wav_that_ends_in_its_header_is_refused() -> None:
    decoder = PCMStreamDecoder()
    decoder.decode(wav_header(size=0)[:20])
    with pytest.raises(BadAudio, match="ended within its header"):
        decoder.close()


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (10**6, 1), (16_000, 0), (16_000, 17)])
def test_raw_audio_out_of_range_is_refused(rate: int, channels: int) -> None:
    with pytest.raises(BadAudio):
        PCMStreamDecoder(rate, "pcm16", channels)


def test_no_bytes_give_no_samples() -> None:
    assert len(decoded(PCMStreamDecoder(), [])) == 0
    assert len(decoded(PCMStreamDecoder(8_000, "mulaw"), [b"", b""])) == 0


@pytest.mark.parametrize("seed", range(200))
def test_damaged_headers_are_refused_or_read(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(wav(pcm16(TONE[:200])))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(44)] = rng.randrange(256)
    try:
        samples = decoded(PCMStreamDecoder(), chunks(bytes(data), seed, 60))
    except BadAudio:
        return
    assert samples.dtype == np.float32 and np.abs(samples).max(initial=0) <= 1
