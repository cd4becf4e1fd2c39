from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper import decode_audio
from faster_whisper.audio import pad_or_trim

from whisper_server.inference.audio.features import BlockwiseFeatureExtractor
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime import adaptive_window

END = 50_256


@dataclass
class Result:
    """The part of a `WhisperGenerationResult` that the checks use."""

    sequences_ids: list[list[int]]
    scores: list[float]


def padded_features(seconds: float, mels: int = 80) -> np.ndarray[Any, Any]:
    waveform = (np.random.default_rng(1).standard_normal(int(seconds * 16_000)) * 0.1).astype(np.float32)
    padded: np.ndarray[Any, Any] = pad_or_trim(BlockwiseFeatureExtractor(feature_size=mels)(waveform)[:, :-1])
    return padded[None]


@pytest.mark.parametrize("seconds", [0.01, 1, 2.5, 5, 11, 20, 23])
@pytest.mark.parametrize("mels", [80, 128])
def test_a_short_window_has_the_audio_and_at_least_five_seconds_of_silence(seconds: float, mels: int) -> None:
    features = padded_features(seconds, mels)
    shortened = adaptive_window.shorten(features)
    assert shortened is not None
    window, audio_seconds = shortened
    frames = round(seconds * 100)
    assert audio_seconds == pytest.approx(seconds, abs=0.011)
    assert window.shape[2] % adaptive_window.STEP == 0
    assert frames + 500 <= window.shape[2] < adaptive_window.FULL
    assert window.shape[2] // 2 not in (80, 128)
    np.testing.assert_array_equal(window[:, :, :frames], features[:, :, :frames])
    assert np.unique(window[:, :, frames + 1 :]).size == 1
    assert window[0, 0, -1] == pytest.approx(max(features.max() - 2, features[:, :, :frames].min()))


@pytest.mark.parametrize("seconds", [24.4, 29, 30])
def test_a_window_that_is_nearly_full_stays_full(seconds: float) -> None:
    assert adaptive_window.shorten(padded_features(seconds)) is None


@pytest.mark.parametrize(
    ("tokens", "score", "seconds", "expected"),
    [
        (list(range(20)), -0.3, 3.0, False),
        (list(range(20)), -1.5, 3.0, True),
        (list(range(80)), -0.3, 3.0, True),
        ([1, 2, 3, 4] * 4, -0.3, 10.0, True),
        ([1, 2, 3, 4] * 3, -0.3, 10.0, False),
        ([7] * 8, -0.3, 10.0, True),
        ([7] * 5, -0.3, 10.0, False),
        ([*range(20, 33), *[7] * 8], -0.3, 10.0, True),
        ([*range(20, 33), *[1, 2, 3] * 4], -0.3, 10.0, True),
        ([*range(60)], -0.3, 3.0, False),
        ([*range(61)], -0.3, 3.0, True),
        ([], -0.1, 3.0, False),
        ([50_363, 1, 2, 50_400] * 2, -0.3, 3.0, False),
    ],
)
def test_loops_and_guesses_are_suspicious(tokens: list[int], score: float, seconds: float, expected: bool) -> None:
    assert adaptive_window.is_suspicious(Result([tokens], [score]), seconds, 1.0, END) is expected


def test_words_and_times_are_those_of_the_full_window(models: ModelManager, audio: Path) -> None:
    speech = decode_audio(str(audio / "sentences.flac"))
    full, adaptive = (
        models.current.whisper_for(RequestContext(), encoder_window=encoder_window)
        for encoder_window in ("full", "adaptive")
    )
    options: dict[str, Any] = {"beam_size": 1, "word_timestamps": True}
    expected, actual = (list(whisper.transcribe(speech, **options)[0]) for whisper in (full, adaptive))
    assert words(actual) == words(expected)
    for start, expected_start in zip(starts(actual), starts(expected), strict=True):
        assert start == pytest.approx(expected_start, abs=0.3)


def words(segments: list[Any]) -> list[str]:
    return [word.word.strip(" .,").lower() for segment in segments for word in segment.words]


def starts(segments: list[Any]) -> list[float]:
    return [word.start for segment in segments for word in segment.words]


def test_a_suspicious_window_is_decoded_again_in_full(models: ModelManager, audio: Path) -> None:
    """Noise makes tiny.en guess with any window, so the text is that of the full window."""
    noise = (np.random.default_rng(3).standard_normal(48_000) * 0.05).astype(np.float32)
    options: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "no_speech_threshold": None, "word_timestamps": True}
    adaptive = models.current.whisper_for(RequestContext(), encoder_window="adaptive")
    actual = list(adaptive.transcribe(noise, **options)[0])
    expected = list(models.current.whisper_for(RequestContext()).transcribe(noise, **options)[0])
    assert adaptive.model.redecoded_windows == 1
    assert [segment.text for segment in actual] == [segment.text for segment in expected]
