"""`whisper-server submit` against a real server, which is killed in one of the tests."""

from __future__ import annotations

import re
import shutil
import signal
import socket
from pathlib import Path
from subprocess import CompletedProcess

import program
import pytest
from servers import LiveServer, live_server


def submit(*arguments: str, cwd: Path) -> CompletedProcess[str]:
    return program.run("submit", *arguments, cwd=cwd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch.mp3"], "nosuch.mp3: no such file"),
        (["a.mp3", "--format", "docx"], "'docx' is none of json, text, srt"),
        (["a.mp3", "--format", "json,verbose_json"], "two of them would be written to the same file"),
        (["a.mp3", "--option", "beam_size"], "--option 'beam_size' is not NAME=VALUE"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_a_wrong_command_exits_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "a.mp3").touch()
    done = submit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_unreachable_server_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = submit("a.mp3", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"no server responds at http://127.0.0.1:{port}" in done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def test_transcripts_are_written(tmp_path: Path, audio: Path) -> None:
    for name in ("short.flac", "sentences.flac"):
        shutil.copy(audio / name, tmp_path)
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    keys = ("--api-key", "secret-" * 4)
    with live_server("--data-dir", str(tmp_path / "data"), *keys) as server:
        common = ("--url", server.url, "--output", "out")
        done = submit(".", *common, cwd=tmp_path)
        assert (done.returncode, "(--api-key, or WHISPER_API_KEY)" in done.stderr) == (1, True)
        done = submit("short.flac", *common, *keys, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        job = re.search(r"job_\w+", done.stderr)
        assert job is not None
        done = submit(".", *common, *keys, "--format", "text,srt", "--option", "beam_size=1", "--watch", cwd=tmp_path)
        assert done.returncode == 1
        assert "noise.wav: no transcript: " in done.stderr
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"short.txt", "short.srt", "sentences.txt", "sentences.srt"}
        assert "kettle" in (tmp_path / "out" / "short.txt").read_text()
        done = submit("short.flac", *common, *keys, "--watch", cwd=tmp_path)
        assert (done.returncode, job[0] in done.stderr) == (0, True)
        done = submit("short.flac", *common, *keys, "--again", cwd=tmp_path)
        assert (done.returncode, job[0] in done.stderr) == (0, False)


def watch(name: str, server: LiveServer, cwd: Path) -> program.Program:
    """Start `submit NAME --watch`, and wait until it reports that the job is running."""
    watching = program.Program("submit", name, "--url", server.url, "--watch", cwd=cwd)
    assert any(f"{name}: running" in line for line in watching.stderr)
    return watching


def test_watching_survives_the_death_of_the_server(tmp_path: Path, audio: Path) -> None:
    shutil.copy(audio / "long.flac", tmp_path)
    flags = ("--data-dir", str(tmp_path / "data"), "--port", str(free_port()))
    with live_server(*flags) as server:
        watching = watch("long.flac", server, tmp_path)
        server.process.kill()
    with watching, live_server(*flags):
        _, errors = watching.communicate()
        assert (watching.wait(60), "the server does not respond" in errors) == (0, True), errors
    assert (tmp_path / "long.txt").stat().st_size > 500


def test_ctrl_c_prints_how_to_resume_watching(tmp_path: Path, audio: Path) -> None:
    shutil.copy(audio / "long.flac", tmp_path)
    with live_server("--data-dir", str(tmp_path / "data")) as server, watch("long.flac", server, tmp_path) as watching:
        watching.send_signal(signal.SIGINT)
        assert "The jobs continue on the server." in watching.communicate()[1]
        assert watching.wait(60) == 130
