from __future__ import annotations

import io
import os
import random
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from faster_whisper import decode_audio
from faster_whisper.audio import decode_audio as reference_decode
from inference.containers import FRAGMENTS, RECIPES, encode, mutated, tone, without_tail
from inference.structures import damaged, elements
from numpy.typing import NDArray
from process import forget_peak, memory

from whisper_server.core.errors import AudioTooLong, BadAudio, Cancelled, Overloaded, WhisperServerError
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.request_context import RequestContext


@pytest.fixture(scope="module")
def decoder() -> AudioDecoder:
    return AudioDecoder(max_seconds=3600)


@pytest.fixture(scope="module")
def speech(audio: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = decode_audio(str(audio / "short.flac"))
    return samples


def decode(decoder: AudioDecoder, file: bytes) -> NDArray[np.float32]:
    with decoder.decode(io.BytesIO(file), RequestContext()) as waveform:
        return waveform[:]


@pytest.mark.parametrize("name", RECIPES)
def test_every_container_is_decoded_as_by_faster_whisper(
    decoder: AudioDecoder, speech: NDArray[np.float32], name: str
) -> None:
    file = encode(speech, RECIPES[name])
    samples = decode(decoder, file)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(len(speech), abs=3200)
    np.testing.assert_array_equal(samples, reference_decode(io.BytesIO(file)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_truncated_file_is_decoded_up_to_its_end(
    decoder: AudioDecoder, speech: NDArray[np.float32], name: str
) -> None:
    samples = decode(decoder, without_tail(np.tile(speech, 4), RECIPES[name]))
    assert len(samples) > len(speech) * 1.5


@pytest.mark.parametrize("name", ["m4a", "mp4"])
def test_an_mp4_truncated_in_a_fragments_index_is_decoded_up_to_it(
    decoder: AudioDecoder, speech: NDArray[np.float32], name: str
) -> None:
    file = encode(speech, RECIPES[name], options=FRAGMENTS)
    index = file.rindex(b"moof", 0, len(file) * 3 // 4) - 4
    for kept in (0, 1, 7, 8, 12, 60, 100):
        samples = decode(decoder, file[: index + kept])
        assert len(samples) == pytest.approx(len(speech) * 3 / 4, abs=8000)


def test_an_mp4_with_invalid_boxes_is_refused(decoder: AudioDecoder) -> None:
    beginning = b"\0\0\0\x10ftypisom\0\0\0\0"
    lengths = [length.to_bytes(4, "big") for length in (0, 1, 7, 8, 2**31, 2**32 - 1)]
    boxes = [length + b"moov" for length in lengths] + [b"\0\0\0\x01moov" + b"\xff" * 8, b"\0\0\0\x08free" * 300_000]
    for box in boxes:
        with pytest.raises(BadAudio, match="damaged|no audio track"):
            decode(decoder, beginning + box)


def test_an_mp4_without_its_index_is_refused(decoder: AudioDecoder, speech: NDArray[np.float32]) -> None:
    file = encode(speech, RECIPES["m4a"])
    with pytest.raises(BadAudio, match="damaged"):
        decode(decoder, file[: len(file) // 2])


def test_the_audio_format_may_change_within_a_file(decoder: AudioDecoder) -> None:
    """Radio streams that were joined are such files."""
    first, second = (encode(tone(2), RECIPES["ogg" if rate else "opus"]) for rate in (0, 1))
    mp2 = [encode(tone(2), RECIPES["mp2"]), encode(tone(2), RECIPES["mpg"])]
    assert len(decode(decoder, first + second)) >= 2 * 16_000
    assert len(decode(decoder, mp2[0] + mp2[0])) == pytest.approx(4 * 16_000, abs=3200)


def multichannel(channels: list[NDArray[np.float32]], layout: str) -> bytes:
    """Return a FLAC with these channels."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000, layout=layout)
        interleaved = (np.stack(channels, axis=1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(interleaved), format="s16", layout=layout)
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("layout", "count"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
def test_channels_are_decoded_separately(decoder: AudioDecoder, layout: str, count: int) -> None:
    channels = [np.full(20_000, number / 10, np.float32) for number in range(count)]
    reported: list[float] = []
    decoded = decoder.decode_channels(io.BytesIO(multichannel(channels, layout)), RequestContext(), reported.append)
    for channel, waveform in zip(channels, decoded, strict=True):
        with waveform:
            assert len(waveform) == 20_000
            np.testing.assert_allclose(waveform[:], channel, atol=1e-3)
    assert reported[-1] == pytest.approx(1.25 * count)


def test_the_channels_of_every_container_are_decoded(decoder: AudioDecoder, speech: NDArray[np.float32]) -> None:
    for recipe in RECIPES.values():
        for waveform in decoder.decode_channels(io.BytesIO(encode(speech, recipe)), RequestContext()):
            with waveform:
                assert len(waveform) == pytest.approx(len(speech), abs=3200)


def test_the_limit_of_seconds_is_for_all_channels_together() -> None:
    decoder = AudioDecoder(max_seconds=2)
    silence = np.zeros(17_000, np.float32)
    decode(decoder, multichannel([silence] * 2, "stereo"))
    with pytest.raises(AudioTooLong):
        decoder.decode_channels(io.BytesIO(multichannel([silence] * 2, "stereo")), RequestContext())


def wav_of(samples: NDArray[np.int16]) -> bytes:
    """Return a WAV at 16 kHz; `samples` have the shape (n, channels)."""
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", 1, channels, 16_000, 32_000 * channels, 2 * channels, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data\xff\xff\xff\xff" + samples.tobytes()


@pytest.mark.parametrize("count", [3, 8, 9, 20])
def test_many_channels_are_decoded_separately(decoder: AudioDecoder, count: int) -> None:
    samples = np.tile(np.arange(count, dtype=np.int16) * 100, (17_000, 1))
    decoded = decoder.decode_channels(io.BytesIO(wav_of(samples)), RequestContext())
    assert [round(float(waveform[9_000:9_001][0]) * 32768) for waveform in decoded] == [100 * n for n in range(count)]
    for waveform in decoded:
        waveform.close()


def test_a_file_with_too_many_channels_is_refused(decoder: AudioDecoder) -> None:
    with pytest.raises(BadAudio, match="21 channels; at most 20"):
        decoder.decode_channels(io.BytesIO(wav_of(np.zeros((9_000, 21), np.int16))), RequestContext())
    with pytest.raises(BadAudio, match="damaged"):
        decoder.decode_channels(io.BytesIO(b"no audio"), RequestContext())


def test_a_video_without_audio_is_refused(decoder: AudioDecoder) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(BadAudio, match="no audio track"):
        decode(decoder, file.getvalue())


MALICIOUS = {
    "concatenation": "ffconcat version 1.0\nfile {file}\n",
    "concatenation by address": "ffconcat version 1.0\nfile file://{file}\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{file}\n#EXT-X-ENDLIST\n",
    "playlist of the network": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n"
    "#EXT-X-ENDLIST\n",
    "session description": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 5004 RTP/AVP 0\r\n",
    "manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>file://{file}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "picture list": "{file}\n",
    "metadata": ";FFMETADATA1\ntitle={file}\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\n{file}\n",
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_no_upload_opens_files_or_sockets(decoder: AudioDecoder, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode(tone(1), RECIPES["wav"]))
    upload = MALICIOUS[kind].format(file=secret).encode()
    started = time.monotonic()
    with _opened_files_and_sockets() as opened, pytest.raises(BadAudio):
        decode(decoder, upload)
    assert time.monotonic() - started < 1
    assert opened == []
    assert secret.stat().st_atime_ns <= secret.stat().st_mtime_ns + 10**12


def test_a_quicktime_reference_to_another_file_is_not_opened(decoder: AudioDecoder, tmp_path: Path) -> None:
    """The `dref` atom can refer to another file that contains the samples."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode(tone(1), RECIPES["wav"]))
    movie = encode(tone(1), RECIPES["mov"])
    same_file = b"url \x00\x00\x00\x01"
    at = movie.index(same_file)
    alias = b"alis\x00\x00\x00\x00"
    with _opened_files_and_sockets() as opened:
        samples = decode(decoder, movie[:at] + alias + movie[at + len(same_file) :])
    assert opened == []
    assert len(samples) >= 0


class _opened_files_and_sockets:
    """Collects new file descriptors of this process, by looking each time FFmpeg reads."""

    def __enter__(self) -> list[str]:
        self._before = _descriptors()
        self._opened: list[str] = []
        sys.setprofile(self._look)
        return self._opened

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        self._opened.extend(sorted(_descriptors() - self._before))

    def _look(self, *event: object) -> None:
        self._opened.extend(sorted(_descriptors() - self._before))


def _descriptors() -> set[str]:
    """Return what this process has open; the descriptor of the listing itself is closed before it is resolved."""
    targets = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            targets.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return targets


@pytest.mark.parametrize("rate", [1, 999, 1_000_000])
def test_an_impossible_sample_rate_is_refused(decoder: AudioDecoder, rate: int) -> None:
    file = bytearray(encode(tone(1), RECIPES["wav"]))
    file[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(BadAudio, match="sample rate"):
        decode(decoder, bytes(file))


def test_the_maximum_length_is_exact() -> None:
    file = encode(tone(3), RECIPES["wav"])
    assert len(decode(AudioDecoder(max_seconds=3), file)) == 48_000
    with pytest.raises(AudioTooLong):
        decode(AudioDecoder(max_seconds=2.9999), file)


def test_a_file_that_declares_a_long_duration_is_refused_before_decoding() -> None:
    """Opus compresses hours of silence to a few kilobytes, and its last page gives the duration."""
    opus = encode(np.zeros(16_000 * 60, np.float32), RECIPES["opus"])
    started = time.monotonic()
    with pytest.raises(AudioTooLong):
        decode(AudioDecoder(max_seconds=30), opus)
    assert time.monotonic() - started < 1


def test_a_wrong_length_in_a_header_is_ignored(decoder: AudioDecoder) -> None:
    """`arecord` and `sox` write the greatest possible length to a pipe."""
    file = bytearray(encode(tone(1), RECIPES["wav"]))
    file[4:8] = file[file.index(b"data") + 4 : file.index(b"data") + 8] = (0x7FFFFFFF).to_bytes(4, "little")
    assert len(decode(decoder, bytes(file))) == 16_000


def test_a_cancelled_request_stops_decoding(decoder: AudioDecoder) -> None:
    cancelled = RequestContext()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        decoder.decode(io.BytesIO(encode(tone(1), RECIPES["flac"])), cancelled)


def test_a_file_that_is_closed_with_its_request_cancels_decoding(decoder: AudioDecoder) -> None:
    """The thread of a request that nobody waits for may read on for a moment."""
    context = RequestContext()

    class ClosedWhileRead(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            context.cancel()
            self.close()
            return super().read(size)

    with pytest.raises(Cancelled):
        decoder.decode(ClosedWhileRead(encode(tone(1), RECIPES["flac"])), context)


def test_the_memory_does_not_grow_with_the_audio(decoder: AudioDecoder) -> None:
    """Half an hour would be 115 MB of 32-bit samples."""
    file = encode(np.tile(tone(60), 30), RECIPES["flac"])
    decode(decoder, encode(tone(60), RECIPES["flac"]))
    forget_peak()
    before = memory("VmRSS")
    with decoder.decode(io.BytesIO(file), RequestContext()) as waveform:
        assert waveform.seconds == 1800
    assert memory("VmHWM") - before < 45_000_000


def reported_seconds(decoder: AudioDecoder, file: bytes) -> list[float]:
    reported = list[float]()
    decoder.decode(io.BytesIO(file), RequestContext(), reported.append).close()
    return reported


def test_what_is_decoded_is_reported_in_steps(decoder: AudioDecoder) -> None:
    """So that the server can refuse a request before it has decoded all of its audio."""
    sound = np.tile(tone(50), 3)
    assert reported_seconds(decoder, encode(sound, RECIPES["flac"])) == [150, 150]
    file = encode(sound, RECIPES["wav"])  # whose declared length is not reliable
    declared, *steps, total = reported_seconds(decoder, file)
    assert declared == 0 and [round(step, -1) for step in steps] == [60, 120] and total == 150


def test_a_request_can_be_refused_while_its_audio_is_decoded(decoder: AudioDecoder) -> None:
    def refuse(seconds: float) -> None:
        if seconds:
            raise Overloaded(f"{seconds:.0f} seconds are too many", 5)

    with pytest.raises(Overloaded, match="^6. seconds"):
        decoder.decode(io.BytesIO(encode(np.tile(tone(50), 3), RECIPES["wav"])), RequestContext(), refuse)


@pytest.mark.full
def test_a_thousand_damaged_files_are_decoded_or_refused(decoder: AudioDecoder, speech: NDArray[np.float32]) -> None:
    rng = random.Random(20261122)
    intact = [encode(speech[:24_000], recipe) for recipe in RECIPES.values()]
    descriptors, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    outcomes: Counter[str] = Counter()
    for i in range(1000):
        file = mutated(rng, intact[i % len(intact)])
        started = time.monotonic()
        try:
            outcomes["text" if len(decode(decoder, file)) else "no samples"] += 1
        except WhisperServerError as exc:
            outcomes[type(exc).__name__] += 1
        assert time.monotonic() - started < 5, i
    assert len(os.listdir("/proc/self/fd")) == descriptors
    # A joined thread may still be listed for a moment; a leak would leave hundreds.
    assert len(os.listdir("/proc/self/task")) < threads + 10
    assert outcomes["text"] > 700, outcomes


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(5, id="5 s"),
        pytest.param(30, id="half a minute", marks=pytest.mark.full),
        pytest.param(3600, id="an hour", marks=pytest.mark.slow),
    ],
)
def test_damaged_structures_are_decoded_or_refused(speech: NDArray[np.float32], seconds: int) -> None:
    """A crash would end this process; a file that takes long or much memory fails the test."""
    decoder, rng = AudioDecoder(max_seconds=600), random.Random(seconds)
    intact = [encode(speech[:24_000], recipe) for recipe in RECIPES.values()]
    intact += [encode(speech[:24_000], RECIPES[name], options=FRAGMENTS) for name in ("m4a", "mp4", "mov")]
    structured = [file for file in intact if elements(file)]
    descriptors = len(os.listdir("/proc/self/fd"))
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        file = damaged(rng, rng.choice(structured if rng.random() < 0.8 else intact))
        forget_peak()
        before, started = memory("VmRSS"), time.thread_time()
        try:
            outcomes["text" if len(decode(decoder, file)) else "no samples"] += 1
        except WhisperServerError as exc:
            outcomes[type(exc).__name__] += 1
        assert time.thread_time() - started < 10, outcomes.total()
        assert memory("VmHWM") - before < 200_000_000, outcomes.total()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert {"text", "BadAudio"} <= outcomes.keys(), outcomes
