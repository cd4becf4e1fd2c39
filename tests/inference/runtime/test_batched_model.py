"""Real weights, float32: what one caller gets does not depend on who else is there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faster_whisper import WhisperModel, decode_audio

from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import transcribe

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("short", {"beam_size": 1}),
    ("sentences", {"beam_size": 1}),
    ("german", {"beam_size": 1}),
    ("spanish", {"beam_size": 2}),
    ("sentences", {"beam_size": 2, "word_timestamps": True}),
    ("short", {"beam_size": 1, "initial_prompt": "A kettle, a stove and tea."}),
    ("sentences", {"beam_size": 1, "word_timestamps": True, "language": "en"}),
    ("short", {"beam_size": 1, "word_timestamps": True, "language": "en"}),
]


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    """One worker, so that everybody has to meet in its batches."""
    settings = Settings(
        model="base", device="cpu", compute_type="float32", workers=1, cpu_threads=2, max_batch_size=8, offline=True
    )
    models = load_models(settings)
    yield models.current
    models.close()


def transcribed(whisper: WhisperModel, audio: Path, request: tuple[str, dict[str, Any]]) -> list[Any]:
    clip, options = request
    segments, info = whisper.transcribe(decode_audio(str(audio / f"{clip}.flac")), temperature=0.0, **options)
    return [info.language, *[(s.text, s.tokens, s.start, s.end, s.words and len(s.words)) for s in segments]]


def test_eight_mixed_requests_at_once_get_what_each_gets_alone(model: LoadedModel, audio: Path) -> None:
    alone = [transcribed(model.whisper, audio, request) for request in REQUESTS]
    before = model.batched.statistics.batches, model.batched.statistics.items
    with ThreadPoolExecutor(8) as pool:
        views = [model.whisper_for(RequestContext()) for _ in REQUESTS]
        together = list(pool.map(lambda view, request: transcribed(view, audio, request), views, REQUESTS))
    assert together == alone
    batches = model.batched.statistics.batches - before[0]
    assert model.batched.statistics.items - before[1] > 1.2 * batches  # encoders run singly on a CPU


def test_the_view_has_what_the_model_has(model: LoadedModel) -> None:
    view = model.whisper_for(RequestContext()).model
    assert view.is_multilingual is True
    assert view.device == "cpu"
    assert view.n_mels == 80
    with pytest.raises(AttributeError):
        view.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize(("languages", "found"), [(("es", "de"), "de"), (("es", "fr"), None), (("de",), "de")])
def test_the_language_is_one_of_the_candidates(
    model: LoadedModel, audio: Path, languages: tuple[str, ...], found: str | None
) -> None:
    whisper = model.whisper_for(RequestContext(), languages=languages)
    _, info = whisper.transcribe(decode_audio(str(audio / "german.flac")))
    assert info.language in languages
    assert found is None or info.language == found
    assert {language for language, _ in info.all_language_probs} == set(languages)
    assert sum(probability for _, probability in info.all_language_probs) == pytest.approx(1)


def test_scores_of_a_language_with_more_than_ascii(model: LoadedModel, audio: Path) -> None:
    samples = decode_audio(str(audio / "spanish.flac"))
    transcript = transcribe(model.whisper_for(RequestContext()), samples, {}, scores=True)
    content = b"".join(score.content for segment in transcript.segments for score in segment.scores)
    assert content.decode() == transcript.text
    assert "ñ" in transcript.text
