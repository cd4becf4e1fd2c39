from __future__ import annotations

import json
from pathlib import Path

import pytest

from whisper_server.inference.models.model_names import names_of, public_id


def test_a_name_is_its_own_id() -> None:
    assert public_id("base") == "base"
    assert names_of("base") == {"base"}
    assert names_of("turbo") == {"turbo", "large-v3-turbo"}
    assert names_of("someone/whisper") == {"someone/whisper"}


@pytest.mark.parametrize("path", ["/srv/nothing/mine", "~/nothing/mine", "./mine", "../nothing/mine", "a/b/mine/"])
def test_a_directory_that_is_missing_is_known_by_its_own_name(path: str) -> None:
    assert public_id(path) == "mine"


def test_a_directory_is_known_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faster-whisper-small").mkdir()
    assert names_of(str(tmp_path / "faster-whisper-small")) == {"faster-whisper-small", "small"}
    assert public_id(f"{tmp_path}/faster-whisper-small/") == "faster-whisper-small"
    monkeypatch.chdir(tmp_path / "faster-whisper-small")
    assert public_id(".") == "faster-whisper-small"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert public_id("~/faster-whisper-small") == "faster-whisper-small"


@pytest.mark.parametrize(
    ("file", "key", "origin", "known"),
    [
        ("config.json", "_name_or_path", "openai/whisper-large-v3", {"large-v3"}),
        ("generation_config.json", "_name_or_path", "openai/whisper-small", {"small"}),
        ("preprocessor_config.json", "_name_or_path", "openai/whisper-base.en", {"base.en"}),
        ("tokenizer_config.json", "name_or_path", "openai/whisper-tiny", {"tiny"}),
        ("config.json", "_name_or_path", "/home/someone/checkpoint-9000", set()),
        ("config.json", "_name_or_path", "whisper-1", set()),
        ("config.json", "_name_or_path", 3, set()),
    ],
)
def test_a_directory_is_known_by_the_name_of_its_origin(
    tmp_path: Path, file: str, key: str, origin: object, known: set[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / file).write_text(json.dumps({key: origin}))
    assert names_of(str(tmp_path / "mine")) == {"mine", *known}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_configuration_names_no_origin(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_bytes(content)
    assert names_of(str(tmp_path / "mine")) == {"mine"}
