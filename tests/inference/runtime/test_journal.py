from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import anyio
import numpy as np
import pytest
from ctranslate2 import StorageView

from whisper_server.engine.admission import Admission
from whisper_server.engine.run_options import RunOptions
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.batched_model import RequestModel, TaskTokens
from whisper_server.inference.runtime.journal import Aligned, Generated, Replay
from whisper_server.inference.transcription.sequential import Transcript

# More than a window, and no longer than that takes.
_SECONDS = 34


class Full(Exception):
    pass


class Notes:
    """A journal that takes so many answers and no more, as a server that is killed then."""

    def __init__(self, room: int = 10**9) -> None:
        self.answers: dict[str, bytes] = {}
        self.recorded = 0
        self._room = room
        self._lock = Lock()

    def after_restart(self, room: int = 10**9) -> Notes:
        resumed = Notes(room)
        resumed.answers = dict(self.answers)
        return resumed

    def find(self, *keys: str) -> bytes | None:
        return next((self.answers[key] for key in keys if key in self.answers), None)

    def record(self, key: str, answer: bytes) -> None:
        with self._lock:
            if self.recorded >= self._room:
                raise Full
            assert key not in self.answers
            self.recorded += 1
            self.answers[key] = answer


class JournaledRuns:
    def __init__(self, models: ModelManager) -> None:
        self._models = models
        self._transcriber = Transcriber(
            models, AudioDecoder(max_seconds=600), Admission(max_requests=8, max_audio_seconds=3600)
        )
        self.progress: list[float] = []

    def run(self, file: Path, options: dict[str, Any], journal: Notes | None, **handling: Any) -> Transcript:
        self.progress = []
        with self._transcriber.background() as context, file.open("rb") as opened:
            audio = anyio.run(self._transcriber.decode, context, opened)[: _SECONDS * SAMPLE_RATE]
            work = partial(self._transcriber.transcribe_samples, journal=journal, on_progress=self.progress.append)
            return anyio.run(work, context, audio, options, RunOptions(**handling))

    @property
    def calls(self) -> int:
        return self._models.current.batched.statistics.items


def content(transcript: Transcript) -> dict[str, Any]:
    """Everything, and whatever is no number equals itself."""
    found = asdict(transcript)
    found["segments"] = repr(found["segments"])
    return found


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "sampled": ({"temperature": [0.9], "best_of": 2, "max_new_tokens": 60}, {"scores": True}),
    "adaptive words": ({"word_timestamps": True}, {"encoder_window": "adaptive"}),
    "pieces": ({"word_timestamps": True}, {"mode": "batched", "scores": True}),
    "voice activity and beams": ({"vad_filter": True, "beam_size": 2}, {}),
    "clips": ({"clip_timestamps": [2, 12, 20, 30]}, {}),
}


@dataclass
class Calm:
    """A run that nothing disturbed: what it noted, what came out, how often it called the model."""

    transcriber: JournaledRuns
    file: Path
    options: dict[str, Any]
    handling: dict[str, Any]
    notes: Notes
    transcript: Transcript
    calls: int
    progress: list[float]

    def run(self, journal: Notes | None) -> Transcript:
        return self.transcriber.run(self.file, self.options, journal, **self.handling)


@pytest.fixture(scope="module", params=WAYS)
def calm(request: pytest.FixtureRequest, models: ModelManager, audio: Path) -> Calm:
    options, handling = WAYS[request.param]
    transcriber, notes, file = JournaledRuns(models), Notes(), audio / "long.flac"
    before = transcriber.calls
    transcript = transcriber.run(file, options, notes, **handling)
    calls = transcriber.calls - before
    return Calm(transcriber, file, options, handling, notes, transcript, calls, transcriber.progress)


def test_a_journal_changes_nothing(calm: Calm) -> None:
    if "temperature" not in calm.options:
        assert content(calm.run(None)) == content(calm.transcript)


def test_what_stands_in_the_journal_is_not_computed_again(calm: Calm) -> None:
    before = calm.transcriber.calls
    assert content(calm.run(calm.notes.after_restart(room=0))) == content(calm.transcript)
    assert calm.transcriber.calls == before


def test_a_run_that_was_interrupted_comes_to_the_same_end(calm: Calm) -> None:
    interrupted = Notes(room=1)
    with pytest.raises(Full):
        calm.run(interrupted)
    resumed = interrupted.after_restart()
    before = calm.transcriber.calls
    transcript = calm.run(resumed)
    assert all(resumed.answers[key] == answer for key, answer in interrupted.answers.items())
    if "temperature" not in calm.options:
        assert calm.transcriber.calls - before < calm.calls
        assert content(transcript) == content(calm.transcript)
        assert resumed.answers == calm.notes.answers


def test_progress_only_grows(calm: Calm) -> None:
    assert calm.progress == sorted(calm.progress)
    assert calm.progress[0] >= 0 and calm.progress[-1] <= 1


class Call:
    kind = "detect_language"
    parameters: ClassVar[dict[str, Any]] = {"frames": 1500}


def test_equal_calls_have_answers_of_their_own() -> None:
    first, second = Replay(Notes()), Replay(Notes())
    calls = ("window a", "window b", "window a")
    keys = [first.keys(Call(), window, []) for window in calls]
    assert len({key for both in keys for key in both}) == 6
    assert [second.keys(Call(), window, []) for window in calls] == keys


class FakeQueue:
    """Answers with constants; counts the calls that it was asked to run."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def call(self, key: Any, payload: Any, context: RequestContext) -> Any:
        self.calls.append(key.kind)
        return _ANSWERS[key.kind]


_ANSWERS: dict[str, Any] = {
    "encode": StorageView.from_array(np.zeros((1, 4, 2), np.float32)),
    "detect_language": [("<|en|>", 0.75), ("<|de|>", 0.25)],
    "generate": Generated([[7, 8, 9]], [-0.25], 0.125),
    "align": Aligned([(0, 1), (1, 3)], [0.5, 0.9375]),
}


def decode_a_window(notes: Notes) -> list[str]:
    """Make the calls that the stored checkpoint has answers for; return those that reached the model."""
    queue = FakeQueue()
    model: Any = None
    tokens = TaskTokens(start_of_transcript=50258, end_of_text=50257, no_timestamps=50363)
    request = RequestModel(model, {}, Replay(notes).over(queue), RequestContext(), tokens, adaptive=False)
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
    assert request.detect_language(output) == [_ANSWERS["detect_language"]]
    for _ in range(2):
        assert request.generate(output, [prompt], **options) == [_ANSWERS["generate"]]
    assert request.align(output, prompt[3:], [[7, 8, 9]], 3000, median_filter_width=7) == [_ANSWERS["align"]]
    return queue.calls


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_every_version_is_resumed_without_decoding_again(version: int) -> None:
    notes = Notes(room=0)
    stored = json.loads((Path(__file__).parent / "checkpoints" / f"version-{version}.json").read_text())
    notes.answers = {key: json.dumps(answer).encode() for key, answer in stored.items()}
    assert decode_a_window(notes) == []


def test_new_answers_are_recorded_under_keys_of_the_present_version() -> None:
    notes = Notes()
    assert len(decode_a_window(notes)) == 5
    stored = json.loads((Path(__file__).parent / "checkpoints" / "version-2.json").read_text())
    assert {key: json.loads(answer) for key, answer in notes.answers.items()} == stored
