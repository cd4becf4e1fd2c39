from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper import WhisperModel, decode_audio
from numpy.typing import NDArray

from whisper_server.core.errors import BadOption, Cancelled
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.chunked import CHUNK_LIMITS, transcribe_chunked
from whisper_server.inference.transcription.sequential import Transcript, transcribe

SECOND = 16_000
LONG = CHUNK_LIMITS["full"]


@pytest.fixture(scope="module")
def long(audio: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = decode_audio(str(audio / "long.flac"))
    return samples


def chunked(models: ModelManager, audio: NDArray[np.float32], window: str = "full", **options: Any) -> Transcript:
    whisper_for = partial(models.current.whisper_for, encoder_window=window)
    return transcribe_chunked(whisper_for, RequestContext(), audio, options, concurrency=4, limits=CHUNK_LIMITS[window])


@pytest.mark.full
@pytest.mark.parametrize("window", CHUNK_LIMITS)
def test_the_words_are_those_of_the_sequential_mode(
    models: ModelManager, long: NDArray[np.float32], window: str
) -> None:
    sequential = transcribe(models.current.whisper_for(RequestContext()), long, {})
    batched = chunked(models, long, window)
    expected, words = (transcript.text.lower().split() for transcript in (sequential, batched))
    assert SequenceMatcher(None, expected, words, autojunk=False).ratio() > 0.9
    assert batched.language == "en"
    assert batched.duration == sequential.duration


def test_times_continue_across_chunks(models: ModelManager, long: NDArray[np.float32]) -> None:
    segments = chunked(models, long, word_timestamps=True).segments
    starts = [word.start for segment in segments for word in segment.words or ()]
    assert starts == sorted(starts)
    assert starts[-1] > 60
    assert [segment.seek for segment in segments] == sorted(segment.seek for segment in segments)
    assert all(segment.end - segment.start < 20 for segment in segments)


def test_a_short_file_is_one_chunk(models: ModelManager, audio: Path) -> None:
    short = decode_audio(str(audio / "short.flac"))
    assert chunked(models, short).text == transcribe(models.current.whisper_for(RequestContext()), short, {}).text


def test_no_samples_give_no_text(models: ModelManager) -> None:
    assert chunked(models, np.zeros(0, np.float32)).segments == []


def test_clip_timestamps_need_the_sequential_mode(models: ModelManager, long: NDArray[np.float32]) -> None:
    with pytest.raises(BadOption, match="mode=sequential"):
        chunked(models, long, clip_timestamps=[1.0, 2.0])


def test_cancelling_ends_all_chunks(models: ModelManager, long: NDArray[np.float32]) -> None:
    context = RequestContext()

    def whisper_for(chunk_context: RequestContext) -> WhisperModel:
        if chunk_context is not context:
            context.cancel()
        return models.current.whisper_for(chunk_context)

    with ThreadPoolExecutor() as pool, pytest.raises(Cancelled):
        pool.submit(transcribe_chunked, whisper_for, context, long, {}, concurrency=2, limits=LONG).result()
