from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faster_whisper import decode_audio
from numpy.typing import NDArray

from whisper_server.core.errors import Cancelled
from whisper_server.inference.alignment.voice import VoiceMap
from whisper_server.inference.request_context import RequestContext

SECOND = 16_000


@pytest.fixture(scope="module")
def speech(audio: Path) -> NDArray[np.float32]:
    """A second of silence, 3 s of speech, and two seconds of silence."""
    clip: NDArray[np.float32] = decode_audio(str(audio / "short.flac"))[: 3 * SECOND]
    return np.pad(clip, (SECOND, 2 * SECOND))


def voice_of(samples: NDArray[np.float32]) -> VoiceMap:
    return VoiceMap(samples, lambda: None)


def test_speech_is_counted_in_seconds(speech: NDArray[np.float32]) -> None:
    voice = voice_of(speech)
    assert voice.seconds(0, 6) == pytest.approx(2.8, abs=0.3)
    assert voice.seconds(0, 0.9) == voice.seconds(4.5, 9) == voice.seconds(5, 4) == 0


def test_a_pause_around_a_word_does_not_belong_to_it(speech: NDArray[np.float32]) -> None:
    start, end = voice_of(speech).without_pauses(0.0, 2.0)
    assert start == pytest.approx(1.0, abs=0.15)
    assert end == 2.0
    assert voice_of(speech).without_pauses(3.0, 6.0)[1] == pytest.approx(4.0, abs=0.2)


def test_of_two_parts_the_later_one_is_the_word(speech: NDArray[np.float32]) -> None:
    twice = np.concatenate([speech, speech])
    start, end = voice_of(twice).without_pauses(3.0, 8.0)
    assert start == pytest.approx(7.0, abs=0.15)
    assert end == 8.0


def test_a_word_without_voice_keeps_its_time(speech: NDArray[np.float32]) -> None:
    assert voice_of(speech).without_pauses(0.1, 0.8) == (0.1, 0.8)
    assert voice_of(speech).without_pauses(50.0, 51.0) == (50.0, 51.0)


def test_time_is_divided_by_the_speech_in_it(speech: NDArray[np.float32]) -> None:
    first, middle, last = voice_of(speech).divide(0.0, 6.0, [0.01, 0.5, 1.0])
    assert 0.9 < first < middle < last < 4.2
    assert voice_of(speech).divide(4.5, 5.5, [0.0, 0.5, 1.0]) == [4.5, 5.0, 5.5]


def test_there_may_be_no_samples() -> None:
    voice = voice_of(np.zeros(0, np.float32))
    assert voice.seconds(0, 1) == 0
    assert voice.without_pauses(0, 1) == (0, 1)


def test_a_cancelled_request_stops_listening(speech: NDArray[np.float32]) -> None:
    cancelled = RequestContext()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        VoiceMap(speech, cancelled.check)
