"""Transcripts equal those of openai-whisper.

`tests/golden` holds the results of openai-whisper 20250625 (float32 on a CPU, all defaults) for the clips in
`tests/audio`, with the same weights. `scripts/make_goldens.py` made them: it converts the CTranslate2 weights of the
packages back to an openai-whisper checkpoint. Every segment was decoded at temperature 0, above which both sample.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST, SHARED, TESTS
from starlette.testclient import TestClient

from whisper_server.app import create_app
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager

GOLDEN = TESTS / "golden"
REFERENCE = SHARED / "reference"
CLIPS = {"tiny.en": ("short", "sentences", "long"), "base": ("short", "german", "spanish", "sentences", "long")}
QUICK = {"tiny.en-short.words", "tiny.en-sentences", "base-german.words"}


def name(golden: Path) -> str:
    return f"{golden.parent.name}-{golden.stem}"


# One golden file without and one with words for each clip.
PATHS = [
    GOLDEN / model / f"{clip}{words}.json"
    for model, clips in CLIPS.items()
    for clip in clips
    for words in ("", ".words")
]
GOLDENS = [pytest.param(path, marks=() if name(path) in QUICK else pytest.mark.full) for path in PATHS]


@cache
def settings(model: str) -> Settings:
    return Settings(model=model, device="cpu", compute_type="float32", offline=True, allow_host=(HOST,))


@cache
def models(model: str) -> ModelManager:
    return load_models(settings(model))


def recognise(golden: Path, audio: Path) -> dict[str, Any]:
    model = golden.parent.name
    clip, _, words = golden.stem.partition(".")
    with TestClient(create_app(settings(model), models(model))) as client, (audio / f"{clip}.flac").open("rb") as file:
        response = client.post("/recognise", files={"file": file}, data={"word_timestamps": str(bool(words))})
    assert response.status_code == 200
    transcription: dict[str, Any] = response.json()["transcription"]
    return transcription


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual["text"] == expected["text"]
    assert actual["language"] == expected["language"]
    assert actual.keys() == expected.keys()
    assert len(actual["segments"]) == len(expected["segments"])
    for ours, theirs in zip(actual["segments"], expected["segments"], strict=True):
        assert_same_segment(ours, theirs)


def assert_same_segment(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for exact in ("id", "seek", "start", "end", "text", "tokens", "temperature"):
        assert ours[exact] == theirs[exact], exact
    for close in ("avg_logprob", "compression_ratio", "no_speech_prob"):
        assert ours[close] == pytest.approx(theirs[close], abs=1e-3), close
    for our_word, their_word in zip(ours.get("words", []), theirs.get("words", []), strict=True):
        assert our_word.keys() == their_word.keys()
        assert our_word["word"] == their_word["word"]
        assert our_word["start"] == pytest.approx(their_word["start"], abs=0.02)
        assert our_word["end"] == pytest.approx(their_word["end"], abs=0.02)
        assert our_word["probability"] == pytest.approx(their_word["probability"], abs=1e-3)


@pytest.mark.parametrize("golden", GOLDENS, ids=name)
def test_own_clips_are_transcribed_as_by_openai_whisper(golden: Path, audio: Path) -> None:
    assert_same(recognise(golden, audio), json.loads(golden.read_text()))


@pytest.mark.full
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the recordings of real speech")
@pytest.mark.parametrize("golden", sorted(REFERENCE.glob("*/*.json")), ids=name)
def test_real_speech_is_transcribed_as_by_openai_whisper(golden: Path) -> None:
    assert_same(recognise(golden, SHARED / "audio"), json.loads(golden.read_text()))
