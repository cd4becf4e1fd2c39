"""With real weights in float32, a result does not depend on the other requests."""

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
    ("sentences", {"beam_size": 2, "word_timestamps": True}),
    ("short", {"beam_size": 1, "initial_prompt": "A kettle, a stove and tea."}),
    ("short", {"beam_size": 1, "word_timestamps": True, "language": "en"}),
]


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    """A model with one worker, so that concurrent requests share its batches."""
    settings = Settings(
        model="base", device="cpu", compute_type="float32", workers=1, cpu_threads=2, max_batch_size=8, offline=True
    )
    models = load_models(settings)
    yield models.current
    models.close()


def result_of(whisper: WhisperModel, audio: Path, request: tuple[str, dict[str, Any]]) -> list[Any]:
    clip, options = request
    segments, info = whisper.transcribe(decode_audio(str(audio / f"{clip}.flac")), temperature=0.0, **options)
    return [info.language, *[(s.text, s.tokens, s.start, s.end, s.words and len(s.words)) for s in segments]]


@pytest.mark.full
def test_concurrent_requests_get_the_same_results_as_one_by_one(model: LoadedModel, audio: Path) -> None:
    expected = [result_of(model.whisper, audio, request) for request in REQUESTS]
    before = model.batcher.statistics.batches, model.batcher.statistics.items
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        whispers = [model.whisper_for(RequestContext()) for _ in REQUESTS]
        results = list(pool.map(lambda whisper, request: result_of(whisper, audio, request), whispers, REQUESTS))
    assert results == expected
    batches = model.batcher.statistics.batches - before[0]
    assert model.batcher.statistics.items - before[1] > 1.2 * batches  # on a CPU, encoders run one by one


def test_a_request_model_has_the_attributes_of_the_model(model: LoadedModel) -> None:
    request_model = model.whisper_for(RequestContext()).model
    assert request_model.is_multilingual is True
    assert request_model.device == "cpu"
    assert request_model.n_mels == 80
    with pytest.raises(AttributeError):
        request_model.no_such_attribute  # noqa: B018


@pytest.mark.parametrize(("languages", "expected"), [(("es", "de"), "de"), (("es", "fr"), None), (("de",), "de")])
def test_the_language_is_one_of_the_candidates(
    model: LoadedModel, audio: Path, languages: tuple[str, ...], expected: str | None
) -> None:
    whisper = model.whisper_for(RequestContext(), languages=languages)
    _, info = whisper.transcribe(decode_audio(str(audio / "german.flac")))
    assert info.language in languages
    assert expected is None or info.language == expected
    assert {language for language, _ in info.all_language_probs} == set(languages)
    assert sum(probability for _, probability in info.all_language_probs) == pytest.approx(1)


def test_the_bytes_of_token_scores_are_the_text_beyond_ascii(model: LoadedModel, audio: Path) -> None:
    samples = decode_audio(str(audio / "spanish.flac"))
    transcript = transcribe(model.whisper_for(RequestContext()), samples, {}, scores=True)
    content = b"".join(score.content for segment in transcript.segments for score in segment.scores or ())
    assert content.decode() == transcript.text
    assert "ñ" in transcript.text
