from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from clients.clients import Client
from faster_whisper import decode_audio
from servers import LiveServer, live_server

PROGRAMS = Path(__file__).parent / "programs"
KEY = "a-secret-of-the-tests"
_SECONDS = 300

Run: TypeAlias = Callable[[Client], dict[str, Any]]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, LiveServer]]:
    """A server with a key, and one without."""
    with live_server("--no-jobs", WHISPER_SERVER_API_KEY=KEY) as guarded, live_server("--no-jobs") as unguarded:
        yield {True: guarded, False: unguarded}


@pytest.fixture(scope="session")
def clip(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """short.flac as a WAV, which all clients can read."""
    path = tmp_path_factory.mktemp("clip") / "short.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((decode_audio(str(audio / "short.flac")) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def run(
    servers: dict[bool, LiveServer], clip: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Run the program of a client, and return what it prints."""
    latest = bool(pytestconfig.getoption("--latest-clients"))

    def run_client(client: Client) -> dict[str, Any]:
        install = _install_npm if client.program.endswith(".mjs") else _install_python
        requirements = client.requirements(latest=latest)
        folder = tmp_path_factory.getbasetemp() / sha256(repr(requirements).encode()).hexdigest()[:16]
        program = PROGRAMS / client.program
        command = [*install(folder, requirements, program), servers[client.sends_key].url, str(clip), KEY]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder)
        assert finished.returncode == 0, finished.stderr[-5000:]
        printed: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        return printed

    return run_client


def _install_python(folder: Path, requirements: list[str], program: Path) -> list[str]:
    """Return the command that runs a program in an environment with these packages."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("needs uv")
    if not folder.exists():
        _install([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _install([uv, "pip", "install", "--quiet", "--python", str(folder), *requirements])
    return [str(folder / "bin" / "python"), str(program)]


def _install_npm(folder: Path, requirements: list[str], program: Path) -> list[str]:
    """JavaScript finds packages beside the program, so the program is copied there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    if not folder.exists():
        folder.mkdir()
        _install(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *requirements])
    return ["node", str(shutil.copy(program, folder))]


def _install(command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if finished.returncode:
        pytest.skip(f"needs a package registry: {finished.stderr[-500:]}")
