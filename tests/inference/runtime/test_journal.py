from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import anyio
import numpy as np
import pytest
from ctranslate2 import StorageView

from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.calls import DetectLanguage
from whisper_server.inference.runtime.journal import AlignmentResult, GenerationResult, JournaledCalls, Replay
from whisper_server.inference.runtime.request_model import RequestModel, TaskTokens
from whisper_server.inference.transcription.sequential import Transcript

# A little more than one window, to keep the tests short.
_SECONDS = 34


class JournalFull(Exception):
    pass


class InMemoryJournal:
    """Fails after `capacity` new results, as if the server was killed then."""

    def __init__(self, capacity: int = 10**9) -> None:
        self.results: dict[str, bytes] = {}
        self._recorded = 0
        self._capacity = capacity
        self._lock = Lock()

    def after_restart(self, capacity: int = 10**9) -> InMemoryJournal:
        resumed = InMemoryJournal(capacity)
        resumed.results = dict(self.results)
        return resumed

    def find(self, *keys: str) -> bytes | None:
        return next((self.results[key] for key in keys if key in self.results), None)

    def record(self, key: str, result: bytes) -> None:
        with self._lock:
            if self._recorded >= self._capacity:
                raise JournalFull
            assert key not in self.results
            self._recorded += 1
            self.results[key] = result


class JournaledRuns:
    def __init__(self, models: ModelManager) -> None:
        self._models = models
        self._transcriber = Transcriber(
            models, AudioDecoder(max_seconds=600), Admission(max_requests=8, max_audio_seconds=3600)
        )
        self.progress: list[float] = []

    def run(
        self, file: Path, options: dict[str, Any], journal: InMemoryJournal | None, **run_options: Any
    ) -> Transcript:
        self.progress = []
        with self._transcriber.background() as context, file.open("rb") as opened:
            with anyio.run(self._transcriber.decode, context, opened) as waveform:
                audio = waveform[: _SECONDS * SAMPLE_RATE]
            work = partial(self._transcriber.transcribe_samples, journal=journal, on_progress=self.progress.append)
            return anyio.run(work, context, audio, options, RunOptions(**run_options))

    @property
    def calls(self) -> int:
        return self._models.current.batcher.statistics.items


def content(transcript: Transcript) -> dict[str, Any]:
    """Return everything in a transcript, in a form in which NaN equals NaN."""
    fields = asdict(transcript)
    fields["segments"] = repr(fields["segments"])
    return fields


# Options of transcribe(), and options of the run.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "sampled": ({"temperature": [0.9], "best_of": 2, "max_new_tokens": 20}, {"scores": True}),
    "adaptive words": ({"word_timestamps": True}, {"encoder_window": "adaptive"}),
    "chunked": ({"word_timestamps": True}, {"mode": "batched", "scores": True}),
    "voice activity and beams": ({"vad_filter": True, "beam_size": 2}, {}),
    "clips": ({"clip_timestamps": [2, 12, 20, 30]}, {}),
}
# Sampling gives another result each time.
DETERMINISTIC = [name for name in CASES if name != "sampled"]


@dataclass
class UninterruptedRun:
    """`calls` is the number of calls that reached the model."""

    transcriber: JournaledRuns
    file: Path
    options: dict[str, Any]
    run_options: dict[str, Any]
    journal: InMemoryJournal
    transcript: Transcript
    calls: int
    progress: list[float]

    def repeat(self, journal: InMemoryJournal | None) -> Transcript:
        return self.transcriber.run(self.file, self.options, journal, **self.run_options)


# The other cases differ from these in options only.
DEFAULT_CASES = ("plain", "chunked", "sampled")


def cases(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in DEFAULT_CASES else pytest.mark.full) for name in names]


@pytest.fixture(scope="module", params=cases(CASES))
def uninterrupted(request: pytest.FixtureRequest, models: ModelManager, audio: Path) -> UninterruptedRun:
    options, run_options = CASES[request.param]
    transcriber, journal, file = JournaledRuns(models), InMemoryJournal(), audio / "long.flac"
    before = transcriber.calls
    transcript = transcriber.run(file, options, journal, **run_options)
    calls = transcriber.calls - before
    return UninterruptedRun(transcriber, file, options, run_options, journal, transcript, calls, transcriber.progress)


@pytest.mark.parametrize("uninterrupted", cases(DETERMINISTIC), indirect=True)
def test_a_journal_does_not_change_the_transcript(uninterrupted: UninterruptedRun) -> None:
    assert content(uninterrupted.repeat(None)) == content(uninterrupted.transcript)


def test_results_in_the_journal_are_not_computed_again(uninterrupted: UninterruptedRun) -> None:
    before = uninterrupted.transcriber.calls
    repeated = uninterrupted.repeat(uninterrupted.journal.after_restart(capacity=0))
    assert content(repeated) == content(uninterrupted.transcript)
    assert uninterrupted.transcriber.calls == before


def resume_after_one_result(uninterrupted: UninterruptedRun) -> tuple[Transcript, InMemoryJournal, int]:
    """Interrupt a run after its first result; returns the resumed one's transcript, journal and number of calls."""
    interrupted = InMemoryJournal(capacity=1)
    with pytest.raises(JournalFull):
        uninterrupted.repeat(interrupted)
    resumed = interrupted.after_restart()
    before = uninterrupted.transcriber.calls
    transcript = uninterrupted.repeat(resumed)
    assert interrupted.results.items() <= resumed.results.items()
    return transcript, resumed, uninterrupted.transcriber.calls - before


@pytest.mark.parametrize("uninterrupted", cases(DETERMINISTIC), indirect=True)
def test_an_interrupted_run_ends_with_the_same_transcript(uninterrupted: UninterruptedRun) -> None:
    transcript, journal, calls = resume_after_one_result(uninterrupted)
    assert calls < uninterrupted.calls
    assert content(transcript) == content(uninterrupted.transcript)
    assert journal.results == uninterrupted.journal.results


@pytest.mark.parametrize("uninterrupted", ["sampled"], indirect=True)
def test_an_interrupted_run_keeps_what_it_sampled(uninterrupted: UninterruptedRun) -> None:
    transcript, journal, _ = resume_after_one_result(uninterrupted)
    assert content(uninterrupted.repeat(journal.after_restart(capacity=0))) == content(transcript)


def test_progress_never_goes_back(uninterrupted: UninterruptedRun) -> None:
    assert uninterrupted.progress == sorted(uninterrupted.progress)
    assert uninterrupted.progress[0] >= 0 and uninterrupted.progress[-1] <= 1


def test_identical_calls_have_different_keys() -> None:
    first, second = Replay(InMemoryJournal()), Replay(InMemoryJournal())
    windows = ("window a", "window b", "window a")
    keys = [first.keys(DetectLanguage(1500), window, []) for window in windows]
    assert len({key for versions in keys for key in versions}) == 6
    assert [second.keys(DetectLanguage(1500), window, []) for window in windows] == keys


class FakeExecutor:
    """Returns constants, and lists the kinds of the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def call(self, key: Any, payload: Any, context: RequestContext) -> Any:
        self.calls.append(key.kind)
        return _RESULTS[key.kind]


_RESULTS: dict[str, Any] = {
    "encode": StorageView.from_array(np.zeros((1, 4, 2), np.float32)),
    "detect_language": [("<|en|>", 0.75), ("<|de|>", 0.25)],
    "generate": GenerationResult([[7, 8, 9]], [-0.25], 0.125),
    "align": AlignmentResult([(0, 1), (1, 3)], [0.5, 0.9375]),
}


def decode_a_window(journal: InMemoryJournal) -> list[str]:
    """Make the calls whose results are in the stored checkpoint; returns those that reached the model."""
    executor = FakeExecutor()
    model: Any = None
    tokens = TaskTokens(start_of_transcript=50258, end_of_text=50257, no_timestamps=50363)
    calls = JournaledCalls(executor, Replay(journal))
    request = RequestModel(model, {}, calls, RequestContext(), tokens, adaptive=False)
    output = request.encode(StorageView.from_array(np.arange(80 * 3000, dtype=np.float32).reshape(1, 80, 3000)))
    options = {
        "beam_size": 2,
        "patience": 1.0,
        "length_penalty": 1,
        "max_length": 448,
        "return_scores": True,
        "return_no_speech_prob": True,
        "suppress_blank": True,
        "suppress_tokens": [-1, 50257],
        "max_initial_timestamp_index": 50,
        "sampling_temperature": 0.0,
    }
    prompt = [50361, 5, 6, 50258, 50259, 50359]
    assert request.detect_language(output) == [_RESULTS["detect_language"]]
    for _ in range(2):
        assert request.generate(output, [prompt], **options) == [_RESULTS["generate"]]
    assert request.align(output, prompt[3:], [[7, 8, 9]], 3000, median_filter_width=7) == [_RESULTS["align"]]
    return executor.calls


def stored_checkpoint(version: int) -> dict[str, Any]:
    file = Path(__file__).parent / "checkpoints" / f"version-{version}.json"
    return dict(json.loads(file.read_text()))


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_each_version_is_resumed_without_decoding_again(version: int) -> None:
    journal = InMemoryJournal(capacity=0)
    journal.results = {key: json.dumps(result).encode() for key, result in stored_checkpoint(version).items()}
    assert decode_a_window(journal) == []


def test_new_results_are_recorded_under_keys_of_the_current_version() -> None:
    journal = InMemoryJournal()
    assert len(decode_a_window(journal)) == 5
    assert {key: json.loads(result) for key, result in journal.results.items()} == stored_checkpoint(2)
