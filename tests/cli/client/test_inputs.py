from __future__ import annotations

from pathlib import Path

import pytest

from whisper_server.cli.client.inputs import find_inputs
from whisper_server.core.errors import SettingsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.mp3", "b.WAV", "notes.txt", "deep/c.opus", "deep/er/d.mkv"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def targets(*names: str) -> list[str]:
    return [str(input_file.target) for input_file in find_inputs(names)]


def test_a_named_file_can_have_any_extension(folder: Path) -> None:
    assert targets("notes.txt", "deep/c.opus") == ["notes", "c"]


def test_a_directory_is_searched_with_its_subdirectories(folder: Path) -> None:
    assert targets(".") == ["a", "b", "deep/c", "deep/er/d"]


def test_glob_patterns_are_expanded(folder: Path) -> None:
    assert targets("**/*.opus", "*.mp3") == ["c", "a"]


def test_a_file_named_twice_is_returned_once(folder: Path) -> None:
    assert targets("a.mp3", "*.mp3", "./a.mp3") == ["a"]


def test_a_file_name_can_look_like_a_pattern(folder: Path) -> None:
    (folder / "[x].mp3").touch()
    assert targets("[x].mp3") == ["[x]"]


def test_transcripts_do_not_overwrite_one_another(folder: Path) -> None:
    (folder / "a.wav").touch()
    (folder / "deep" / "a.wav").touch()
    assert targets("a.mp3", "a.wav") == ["a.mp3", "a.wav"]
    assert targets("a.wav", "deep/a.wav") == ["a.wav", "a.wav-2"]


@pytest.mark.parametrize("name", ["nosuch.mp3", "*.ogg", "empty"])
def test_a_name_without_files_is_an_error(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SettingsError, match="no such file, or no recordings in it"):
        find_inputs(["a.mp3", name])
