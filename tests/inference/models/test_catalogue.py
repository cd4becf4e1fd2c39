from __future__ import annotations

import pytest

from whisper_server.inference.models.catalogue import REPOSITORIES, SERVED, canonical_name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "whisper",
        "whisper-1",
        "whisper-2-preview",
        "openai/whisper-1",
        "gpt-live-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
        "openai/gpt-4o-transcribe",
        "GPT-9",
    ],
)
def test_openais_names_mean_the_served_model(name: str) -> None:
    assert canonical_name(name) == SERVED


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("whisper-large-v3", "large-v3"),
        ("whisper-large-v3-turbo", "large-v3-turbo"),
        ("whisper-large", "large-v3"),
        ("turbo", "large-v3-turbo"),
        ("openai/whisper-base", "base"),
        ("faster-whisper-small.en", "small.en"),
        ("Systran/faster-whisper-tiny", "tiny"),
        ("systran/faster-whisper-tiny", "tiny"),
        ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "large-v3-turbo"),
        ("deepdml/faster-whisper-large-v3-turbo-ct2", "large-v3-turbo"),
        ("Systran/faster-distil-whisper-small.en", "distil-small.en"),
        ("distil-whisper/distil-medium.en", "distil-medium.en"),
        ("distil-whisper/distil-large-v3.5-ct2", "distil-large-v3.5"),
        ("distil-whisper-large-v3-en", "distil-large-v3"),
        ("whisper-distil-large-v2", "distil-large-v2"),
    ],
)
def test_a_spelling_means_a_known_name(name: str, known: str) -> None:
    assert canonical_name(name) == known


@pytest.mark.parametrize(
    "name",
    [
        "nova-3",
        "base-int8",
        "whisper-large-v3-int8",
        "whisper-small-german",
        "someone/whisper-small",
        "whisperx",
        "a\nb",
    ],
)
def test_every_other_name_means_itself(name: str) -> None:
    assert canonical_name(name) == name


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_known_name_and_its_repository_are_the_same_model(name: str) -> None:
    canonical = canonical_name(name)
    assert canonical == canonical_name(REPOSITORIES[name]) == canonical_name(canonical)
    assert REPOSITORIES[canonical] == REPOSITORIES[name]
