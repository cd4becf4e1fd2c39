"""Windows of live sessions, decoded with real weights, with and without a forced prefix."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel, decode_audio

from whisper_server.inference.audio.waveform import Samples
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import Priority, RequestContext
from whisper_server.inference.runtime import adaptive_window
from whisper_server.inference.transcription.streaming import DecodeWindow, Hypothesis, decode_window

RATE = 16_000


@pytest.fixture
def whisper(models: ModelManager) -> WhisperModel:
    return models.current.whisper_for(RequestContext(Priority.LIVE), encoder_window="adaptive")


@pytest.fixture(scope="module")
def short(audio: Path) -> Samples:
    samples: Samples = decode_audio(str(audio / "short.flac"))
    return samples


def text_of(hypothesis: Hypothesis) -> str:
    return "".join(word.text for word in hypothesis.words)


def test_words_have_times_within_the_window(whisper: WhisperModel, short: Samples, texts: dict[str, str]) -> None:
    hypothesis = decode_window(whisper, DecodeWindow(short))
    # int8 kernels differ between CPUs, and some of them give one word that sounds alike.
    words, expected = text_of(hypothesis).split(), texts["short"].split()
    assert len(words) == len(expected) and sum(a != b for a, b in zip(words, expected, strict=True)) <= 1
    assert (hypothesis.language, hypothesis.language_probability, hypothesis.looping) == ("en", 1.0, False)
    times = [time for word in hypothesis.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] <= len(short) / RATE
    assert all(0 < word.probability <= 1 and word.tokens for word in hypothesis.words)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_prefix_is_continued_and_not_repeated(whisper: WhisperModel, short: Samples, count: int) -> None:
    whole = decode_window(whisper, DecodeWindow(short))
    prefix = whole.words[:count]
    hypothesis = decode_window(whisper, DecodeWindow(short, prefix=prefix))
    assert [word.text for word in (*prefix, *hypothesis.words)] == [word.text for word in whole.words]
    assert hypothesis.words[0].start == pytest.approx(whole.words[count].start, abs=0.2)


def test_words_of_another_models_vocabulary_are_tokenised_again(whisper: WhisperModel, short: Samples) -> None:
    whole = decode_window(whisper, DecodeWindow(short))
    prefix = tuple(replace(word, tokens=(1, 2, 3), vocabulary=1) for word in whole.words[:4])
    hypothesis = decode_window(whisper, DecodeWindow(short, prefix=prefix))
    assert text_of(hypothesis) == "".join(word.text for word in whole.words[4:])


def test_punctuation_after_the_prefix_belongs_to_the_next_word(whisper: WhisperModel, short: Samples) -> None:
    whole = decode_window(whisper, DecodeWindow(short))
    index = next(i for i, word in enumerate(whole.words) if word.text.endswith(","))
    last = whole.words[index]
    without_comma = replace(last, text=last.text.rstrip(","), tokens=last.tokens[:-1])
    hypothesis = decode_window(whisper, DecodeWindow(short, prefix=(*whole.words[:index], without_comma)))
    assert "".join(word.text for word in (*whole.words[:index], without_comma)) + text_of(hypothesis) == text_of(whole)
    assert hypothesis.words[0].text.startswith(",")
    assert len(hypothesis.words[0].text) > 1


def test_concurrent_windows_get_the_same_text_as_single_ones(models: ModelManager, short: Samples) -> None:
    def decoded_text(window: DecodeWindow) -> str:
        whisper = models.current.whisper_for(RequestContext(Priority.LIVE), encoder_window="adaptive")
        return text_of(decode_window(whisper, window))

    whole = decode_window(models.current.whisper_for(RequestContext(), encoder_window="adaptive"), DecodeWindow(short))
    windows = [DecodeWindow(short, prefix=whole.words[:n]) for n in (0, 1, 3, 6)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decoded_text, windows)) == [decoded_text(window) for window in windows]


def test_ten_milliseconds_of_silence_can_be_decoded(whisper: WhisperModel) -> None:
    hypothesis = decode_window(whisper, DecodeWindow(np.zeros(160, np.float32)))
    assert hypothesis.log_probability < 0 or not hypothesis.words


def test_windows_of_one_length_have_the_same_token_limit() -> None:
    assert adaptive_window.max_audio_frames(10) == adaptive_window.max_audio_frames(256) == 256
    assert adaptive_window.max_audio_frames(257) == 256 + adaptive_window.STEP
    assert adaptive_window.max_audio_frames(2900) == adaptive_window.FULL
