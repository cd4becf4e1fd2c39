from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper import WhisperModel, decode_audio
from numpy.typing import NDArray

from whisper_server.errors import BadOption, Cancelled
from whisper_server.inference.models import ModelManager
from whisper_server.inference.pieces import cut, transcribe_in_pieces
from whisper_server.inference.tickets import Ticket
from whisper_server.inference.transcription import Transcript, transcribe

SECOND = 16_000


@pytest.fixture(scope="module")
def long(audio: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = decode_audio(str(audio / "long.flac"))
    return samples


def in_pieces(models: ModelManager, audio: NDArray[np.float32], **options: Any) -> Transcript:
    return transcribe_in_pieces(models.current.whisper_for, Ticket(), audio, options, at_once=4)


@pytest.mark.parametrize("seconds", [0, 0.01, 3, 29.9, 30, 30.1, 95])
def test_pieces_are_the_whole_and_none_is_longer_than_a_window(seconds: float) -> None:
    audio = np.random.default_rng(0).standard_normal(int(seconds * SECOND)).astype(np.float32)
    pieces = list(cut(audio))
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), audio)
    assert [piece.start for piece in pieces[1:]] == np.cumsum([len(p.samples) for p in pieces])[:-1].tolist()
    assert all(12 * SECOND <= len(piece.samples) <= 30 * SECOND for piece in pieces[:-1])


def test_a_piece_ends_in_the_middle_of_the_quietest_pause() -> None:
    audio = np.random.default_rng(0).standard_normal(45 * SECOND).astype(np.float32)
    audio[20 * SECOND : 20 * SECOND + 8000] *= 0.01
    first, _ = cut(audio)
    assert len(first.samples) / SECOND == pytest.approx(20.25, abs=0.13)


def test_silence_is_cut_late() -> None:
    first, *_ = cut(np.zeros(60 * SECOND, np.float32))
    assert len(first.samples) > 29 * SECOND


def test_the_words_are_those_of_the_sequential_mode(models: ModelManager, long: NDArray[np.float32]) -> None:
    sequential = transcribe(models.current.whisper_for(Ticket()), long, {})
    batched = in_pieces(models, long)
    said, heard = (transcript.text.lower().split() for transcript in (sequential, batched))
    assert SequenceMatcher(None, said, heard, autojunk=False).ratio() > 0.9
    assert batched.language == "en"
    assert batched.duration == sequential.duration


def test_times_go_on_through_the_pieces(models: ModelManager, long: NDArray[np.float32]) -> None:
    segments = in_pieces(models, long, word_timestamps=True).segments
    starts = [word.start for segment in segments for word in segment.words]
    assert starts == sorted(starts)
    assert starts[-1] > 60
    assert [segment.seek for segment in segments] == sorted(segment.seek for segment in segments)
    assert all(segment.end - segment.start < 20 for segment in segments)


def test_a_short_file_is_one_piece(models: ModelManager, audio: Path) -> None:
    short = decode_audio(str(audio / "short.flac"))
    assert in_pieces(models, short).text == transcribe(models.current.whisper_for(Ticket()), short, {}).text


def test_no_samples_give_no_text(models: ModelManager) -> None:
    assert in_pieces(models, np.zeros(0, np.float32)).segments == []


def test_clips_are_for_the_sequential_mode(models: ModelManager, long: NDArray[np.float32]) -> None:
    with pytest.raises(BadOption, match="mode=sequential"):
        in_pieces(models, long, clip_timestamps=[1.0, 2.0])


def test_cancelling_ends_all_pieces(models: ModelManager, long: NDArray[np.float32]) -> None:
    ticket = Ticket()

    def whisper_for(asked: Ticket) -> WhisperModel:
        if asked is not ticket:
            ticket.cancel()
        return models.current.whisper_for(asked)

    with ThreadPoolExecutor() as pool, pytest.raises(Cancelled):
        pool.submit(transcribe_in_pieces, whisper_for, ticket, long, {}, at_once=2).result()
