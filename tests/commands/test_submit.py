"""`whisper-server submit` as users run it, against a real server that is killed meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

CLIPS = ("short.flac", "sentences.flac")


def submit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whisper_server", "submit", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nosuch.mp3"], "nosuch.mp3: no such file"),
        (["a.mp3", "--format", "docx"], "'docx' is none of json, text, srt"),
        (["a.mp3", "--format", "json,verbose_json"], "two of them would be one file"),
        (["a.mp3", "--option", "beam_size"], "--option 'beam_size' is not NAME=VALUE"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_a_wrong_command_is_refused(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    (tmp_path / "a.mp3").touch()
    done = submit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_no_server_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = submit("a.mp3", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"no server answers at http://127.0.0.1:{port}" in done.stderr
