from __future__ import annotations

from pathlib import Path

import pytest

from whisper_server.cli.inputs import find
from whisper_server.core.settings import SettingsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.mp3", "b.WAV", "notes.txt", "deep/c.opus", "deep/er/d.mkv"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def targets(*names: str) -> list[str]:
    return [str(input_file.target) for input_file in find(names)]


def test_a_file_is_taken_whatever_it_is_called(folder: Path) -> None:
    assert targets("notes.txt", "deep/c.opus") == ["notes", "c"]


def test_a_directory_keeps_its_order_and_its_folders(folder: Path) -> None:
    assert targets(".") == ["a", "b", "deep/c", "deep/er/d"]


def test_patterns_are_for_shells_that_leave_them(folder: Path) -> None:
    assert targets("**/*.opus", "*.mp3") == ["c", "a"]


def test_what_is_named_twice_is_taken_once(folder: Path) -> None:
    assert targets("a.mp3", "*.mp3", "./a.mp3") == ["a"]


def test_a_file_may_have_the_name_of_a_pattern(folder: Path) -> None:
    (folder / "[x].mp3").touch()
    assert targets("[x].mp3") == ["[x]"]


def test_transcripts_do_not_overwrite_one_another(folder: Path) -> None:
    (folder / "a.wav").touch()
    (folder / "deep" / "a.wav").touch()
    assert targets("a.mp3", "a.wav") == ["a.mp3", "a.wav"]
    assert targets("a.wav", "deep/a.wav") == ["a.wav", "a.wav-2"]


@pytest.mark.parametrize("name", ["nosuch.mp3", "*.ogg", "empty"])
def test_what_leads_to_nothing_is_said(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SettingsError, match="no such file, or no recordings in it"):
        find(["a.mp3", name])
