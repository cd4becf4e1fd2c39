"""`--wyoming` as a process: its log, its socket, its shutdown, and the messages for wrong settings."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import program
import pytest
from servers import live_server
from wyoming.client import AsyncClient
from wyoming.info import Describe
from wyoming_client import receive, samples, send, transcribed, utterance


def test_a_unix_socket_serves_until_the_server_stops(tmp_path: Path, audio: Path) -> None:
    path = tmp_path / "whisper.sock"

    async def transcribe() -> None:
        async with AsyncClient.from_uri(f"unix://{path}", read_timeout=60) as client:
            await send(client, Describe())
            assert (await receive(client)).type == "info"
            assert "stove" in await transcribed(client, utterance(samples(audio / "short.flac").tobytes()))

    with live_server("--wyoming", f"unix://{path}") as server:
        assert any(f"listening for Wyoming clients on unix://{path}" in line for line in server.log)
        anyio.run(transcribe)
        assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--wyoming", "0.0.0.0:10300"], "--wyoming: '0.0.0.0:10300' is not allowed; expected tcp://HOST:PORT"),
        (["--wyoming", "tcp://0.0.0.0"], "is not allowed; expected tcp://HOST:PORT"),
        (["--wyoming", "unix://whisper.sock"], "unix:///PATH"),
        (["--wyoming-zeroconf"], "--wyoming-zeroconf needs a --wyoming address"),
        (["--wyoming", "tcp://127.0.0.1:0", "--wyoming-zeroconf"], "a --wyoming address that other machines can reach"),
    ],
)
def test_wrong_settings_end_the_server_before_the_model_is_loaded(flags: Sequence[str], message: str) -> None:
    process = program.run("--port", "0", *flags)
    assert process.returncode == 2
    assert message in process.stderr and "loading" not in process.stderr


def test_a_taken_port_fails_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = program.run("--port", "0", "--wyoming", f"tcp://127.0.0.1:{other.getsockname()[1]}")
    assert process.returncode == 1
    assert "in use" in process.stderr and "loading" not in process.stderr


def test_without_the_package_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    script = "import sys; sys.modules['wyoming'] = None; from whisper_server.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "--port", "0", "--model", "tiny.en", "--offline"]
    process = subprocess.run([*command, "--wyoming", "10300"], capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    expected = r"whisper-server: --wyoming needs the package wyoming\n  → pip install 'whisper-server\[wyoming\]'\n"
    assert re.fullmatch(expected, process.stderr)
