"""Texts are aligned with tiny.en, whose transcripts of the clips have errors."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import numpy as np
import pytest
from conftest import SHARED, TESTS
from faster_whisper import decode_audio
from numpy.typing import NDArray
from recorder import pcm16, wav

from whisper_server.core.errors import Cancelled, ModelNotFound
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.alignment.aligner import Alignment, TimedWord
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.models.manager import ModelManager

UNSPOKEN = (
    "Nobody ever said this paragraph aloud. It describes the price of the tickets, the parking lot and the cafe, "
    "which opens at nine every day except on Monday."
)
GOLDEN = TESTS / "golden" / "tiny.en"
REFERENCE = SHARED / "reference" / "tiny.en"
RATE = 16_000


def align(models: ModelManager, samples: NDArray[np.float32], text: str, **options: Any) -> Alignment:
    transcriber = Transcriber(
        models, AudioDecoder(max_seconds=4000), Admission(max_requests=1, max_audio_seconds=10_000)
    )
    run = RunOptions(mode="batched", encoder_window="adaptive", **options)
    with transcriber.admission.admit() as context:
        return anyio.run(transcriber.align, context, io.BytesIO(wav(pcm16(samples))), text, run)


def words_of(alignment: Alignment) -> list[TimedWord]:
    return [word for segment in alignment.segments for word in segment.words]


def spans(alignment: Alignment) -> list[tuple[float | None, float | None]]:
    return [(word.start, word.end) for word in words_of(alignment)]


def reference_words(path: Path) -> list[dict[str, Any]]:
    return [word for segment in json.loads(path.read_text())["segments"] for word in segment["words"]]


def errors(words: Sequence[TimedWord], expected: Sequence[dict[str, Any]], offset: float = 0.0) -> list[float]:
    """The distances of starts and ends from those that are expected, in seconds; 5 % of the words may have no times."""
    assert [word.text.strip() for word in words] == [word["word"].strip() for word in expected]
    assert sum(word.start is None for word in words) <= 0.05 * len(words)
    return [
        abs(found - offset - theirs[edge])
        for word, theirs in zip(words, expected, strict=True)
        for edge, found in (("start", word.start), ("end", word.end))
        if found is not None
    ]


@pytest.fixture(scope="module")
def long(audio: Path) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = decode_audio(str(audio / "long.flac"))
    return samples


@pytest.fixture(scope="module")
def paragraphs(texts: dict[str, str]) -> list[str]:
    return texts["long"].split("\n\n")


@pytest.fixture(scope="module")
def whole(models: ModelManager, long: NDArray[np.float32], texts: dict[str, str]) -> Alignment:
    return align(models, long, texts["long"])


def check_times(alignment: Alignment) -> None:
    times = [time for word in words_of(alignment) for time in (word.start, word.end) if time is not None]
    assert times == sorted(times)
    assert all(0 <= time <= alignment.duration for time in times)
    assert all(0 <= word.probability <= 1 for word in words_of(alignment))


@pytest.mark.parametrize(
    "golden",
    [
        GOLDEN / "short.words.json",
        GOLDEN / "sentences.words.json",
        pytest.param(GOLDEN / "long.words.json", marks=pytest.mark.full),
        *(pytest.param(path, marks=pytest.mark.full) for path in sorted(REFERENCE.glob("*.words.json"))),
    ],
    ids=lambda path: path.name.partition(".")[0],
)
def test_words_are_where_openai_whisper_finds_them(models: ModelManager, audio: Path, golden: Path) -> None:
    clip = f"{golden.name.partition('.')[0]}.flac"
    path = audio / clip if (audio / clip).exists() else SHARED / "audio" / clip
    alignment = align(models, decode_audio(str(path)), json.loads(golden.read_text())["text"])
    check_times(alignment)
    assert median(errors(words_of(alignment), reference_words(golden))) <= 0.03


def test_all_words_of_the_text_come_back_in_its_spelling(whole: Alignment, texts: dict[str, str]) -> None:
    assert "".join(word.text for word in words_of(whole)).split() == texts["long"].split()
    assert " ".join(segment.text for segment in whole.segments) == " ".join(texts["long"].split())
    assert (whole.text, whole.language) == (texts["long"], "en")
    assert all(segment.probability > 0.5 for segment in whole.segments)
    check_times(whole)


def test_a_paragraph_that_is_not_spoken_has_no_times(
    models: ModelManager, long: NDArray[np.float32], paragraphs: list[str], whole: Alignment
) -> None:
    alignment = align(models, long, "\n".join([*paragraphs[:2], UNSPOKEN, *paragraphs[2:]]))
    unspoken = [segment for segment in alignment.segments if segment.text in UNSPOKEN]
    assert len(unspoken) == 2
    assert all((segment.start, segment.end, segment.probability) == (None, None, 0.0) for segment in unspoken)
    spoken = [segment for segment in alignment.segments if segment not in unspoken]
    assert [word for segment in spoken for word in segment.words] == words_of(whole)


def test_speech_that_is_not_in_the_text_does_not_move_the_other_words(
    models: ModelManager, long: NDArray[np.float32], paragraphs: list[str], whole: Alignment
) -> None:
    alignment = align(models, long, "\n".join([*paragraphs[:1], *paragraphs[2:]]))
    kept = [segment for segment in whole.segments if segment.text not in paragraphs[1]]
    assert spans(alignment) == [(word.start, word.end) for segment in kept for word in segment.words]


def test_a_text_in_another_language_is_improbable(models: ModelManager, long: NDArray[np.float32]) -> None:
    alignment = align(models, long, "Willkommen im kleinen Museum der Uhren. Die Führung dauert etwa eine Stunde.")
    check_times(alignment)
    assert all(segment.probability < 0.4 for segment in alignment.segments)


@pytest.mark.parametrize("seconds", [0, 0.01, 2, pytest.param(40, marks=pytest.mark.full)])
def test_nothing_is_spoken_in_silence(models: ModelManager, seconds: float) -> None:
    alignment = align(models, np.zeros(round(seconds * RATE), np.float32), "You are here. Thank you.")
    assert alignment.duration == seconds
    assert {(word.start, word.end, word.probability) for word in words_of(alignment)} == {(None, None, 0.0)}


@pytest.mark.parametrize(
    "text",
    [
        "<|endoftext|> kettle <|0.00|>",
        "… — !!!",
        "x" * 3000 + " kettle",
        "kettle " * 2000,
        "你好。世界",
        "\u0301 \ufffd",
    ],
    ids=["special tokens", "punctuation", "a long word", "repetition", "another script", "marks"],
)
def test_any_text_is_aligned(models: ModelManager, audio: Path, text: str) -> None:
    alignment = align(models, decode_audio(str(audio / "short.flac")), text)
    assert "".join("".join(word.text for word in words_of(alignment)).split()) == "".join(text.split())
    check_times(alignment)


def test_a_cancelled_request_ends(models: ModelManager, long: NDArray[np.float32], texts: dict[str, str]) -> None:
    transcriber = Transcriber(models, AudioDecoder(max_seconds=600), Admission(max_requests=1, max_audio_seconds=900))
    with transcriber.admission.admit() as context:
        context.cancel()
        with pytest.raises(Cancelled):
            anyio.run(transcriber.align, context, io.BytesIO(wav(pcm16(long))), texts["long"], RunOptions())


def test_an_unknown_model_is_refused(models: ModelManager) -> None:
    with pytest.raises(ModelNotFound):
        align(models, np.zeros(RATE, np.float32), "text", model="nosuch")


@pytest.mark.full
@pytest.mark.parametrize("silence", [pytest.param(0.5, marks=pytest.mark.slow), 3.0])
def test_the_last_minute_is_as_accurate_as_the_first(models: ModelManager, audio: Path, silence: float) -> None:
    """Ten minutes of the clips, each at a known position."""
    clips = {clip: decode_audio(str(audio / f"{clip}.flac")) for clip in ("short", "sentences", "long")}
    pieces: list[NDArray[np.float32]] = []
    offsets: list[tuple[str, float]] = []
    while (position := sum(map(len, pieces))) < 600 * RATE:
        clip = ("short", "sentences", "long")[len(offsets) % 3]
        offsets.append((clip, position / RATE))
        pieces += [clips[clip], np.zeros(round(silence * RATE), np.float32)]
    expected = {clip: reference_words(GOLDEN / f"{clip}.words.json") for clip in clips}
    text = "".join(word["word"] for clip, _ in offsets for word in expected[clip])
    words = words_of(align(models, np.concatenate(pieces), text))
    distances: list[list[float]] = []
    for clip, offset in offsets:
        distances.append(errors(words[: len(expected[clip])], expected[clip], offset))
        words = words[len(expected[clip]) :]
    assert not words
    first, last = sum(distances[:3], []), sum(distances[-3:], [])
    assert max(median(first), median(last)) <= 0.03
    assert abs(median(first) - median(last)) <= 0.02
