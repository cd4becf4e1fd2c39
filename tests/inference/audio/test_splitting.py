from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import decode_audio
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from whisper_server.core.errors import Cancelled
from whisper_server.inference.audio.splitting import ChunkLimits, find_speech, split_at_silence
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.chunked import CHUNK_LIMITS

SECOND = 16_000


@pytest.fixture(scope="module")
def long(audio: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = decode_audio(str(audio / "long.flac"))
    return samples


@pytest.mark.parametrize("limits", CHUNK_LIMITS.values(), ids=CHUNK_LIMITS)
@pytest.mark.parametrize("seconds", [0, 0.01, 3, 15.9, 16, 16.1, 29.9, 30, 30.1, 95])
def test_chunks_cover_the_audio_and_none_is_too_long(seconds: float, limits: ChunkLimits) -> None:
    audio = np.random.default_rng(0).standard_normal(int(seconds * SECOND)).astype(np.float32)
    chunks = list(split_at_silence(audio, limits))
    assert (chunks[0][0], chunks[-1][1]) == (0, len(audio))
    assert all(before[1] == after[0] for before, after in pairwise(chunks))
    assert all(limits.shortest <= stop - start <= limits.longest for start, stop in chunks[:-1])


@pytest.mark.parametrize("loudness", [0.0, 0.02])
def test_chunks_end_in_pauses_of_speech(long: NDArray[np.float32], loudness: float) -> None:
    """In noise too, where some speech is quieter than the noise."""
    noise = np.random.default_rng(0).standard_normal(len(long)).astype(np.float32)
    for start, _ in list(split_at_silence(long + loudness * noise, CHUNK_LIMITS["adaptive"]))[1:]:
        around = long[start - SECOND // 10 : start + SECOND // 10]
        assert np.abs(around).max() < 0.01 * np.abs(long).max()


def test_silence_is_split_as_late_as_possible() -> None:
    (_, stop), *_ = split_at_silence(np.zeros(60 * SECOND, np.float32), CHUNK_LIMITS["full"])
    assert stop > 29 * SECOND


def test_the_speech_is_what_faster_whisper_finds(long: NDArray[np.float32]) -> None:
    """In a file of several chunks the parts differ, but not by more than a pause at the end of a chunk."""
    silence = np.zeros(5 * SECOND, np.float32)
    once = np.concatenate([silence, long[: 20 * SECOND], silence, long[20 * SECOND : 40 * SECOND]])
    expected = [(part["start"], part["end"]) for part in get_speech_timestamps(once, VadOptions())]
    assert find_speech(once, VadOptions(), RequestContext().check) == expected
    assert len(expected) > 1

    audio = np.concatenate([once, once, once])
    voiced, found = np.zeros(len(audio), bool), np.zeros(len(audio), bool)
    for part in get_speech_timestamps(audio, VadOptions()):
        voiced[part["start"] : part["end"]] = True
    for start, stop in find_speech(audio, VadOptions(), RequestContext().check):
        found[start:stop] = True
    assert np.count_nonzero(voiced != found) < 2 * SECOND


def test_a_cancelled_request_stops_looking_for_speech() -> None:
    cancelled = RequestContext()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        find_speech(np.zeros(SECOND, np.float32), VadOptions(), cancelled.check)
