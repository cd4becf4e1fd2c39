from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import anyio
import pytest

from whisper_server.engine import Engine
from whisper_server.inference.admission import Admission
from whisper_server.inference.audio import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.journal import Replay
from whisper_server.inference.models import ModelManager
from whisper_server.inference.transcription import Transcript

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

    def find(self, key: str) -> bytes | None:
        return self.answers.get(key)

    def record(self, key: str, answer: bytes) -> None:
        with self._lock:
            if self.recorded >= self._room:
                raise Full
            assert key not in self.answers
            self.recorded += 1
            self.answers[key] = answer


class Transcriber:
    def __init__(self, models: ModelManager) -> None:
        self._models = models
        self._engine = Engine(models, AudioDecoder(max_seconds=600), Admission(max_requests=8, max_audio_seconds=3600))
        self.progress: list[float] = []

    def run(self, file: Path, options: dict[str, Any], journal: Notes | None, **handling: Any) -> Transcript:
        self.progress = []
        with self._engine.background() as ticket, file.open("rb") as opened:
            audio = anyio.run(self._engine.decode, ticket, opened)[: _SECONDS * SAMPLE_RATE]
            handling = {**handling, "journal": journal, "on_progress": self.progress.append}
            return anyio.run(partial(self._engine.transcribe_samples, ticket, audio, options, **handling))

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

    transcriber: Transcriber
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
    transcriber, notes, file = Transcriber(models), Notes(), audio / "long.flac"
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


def test_equal_calls_have_answers_of_their_own() -> None:
    first, second = Replay(Notes()), Replay(Notes())
    names = [first.name("a"), first.name("b"), first.name("a")]
    assert len(set(names)) == 3
    assert [second.name(call) for call in ("a", "b", "a")] == names
