"""The application for those who have a process manager of their own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from servers import launched

from whisper_server.app import create_app
from whisper_server.core.settings import SettingsError

KEY = "a-secret-of-the-tests"
UVICORN = [sys.executable, "-m", "uvicorn", "--factory", "whisper_server.app:create_app", "--port", "0"]


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What is configured for the whole process is put back."""
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_a_factory_takes_its_settings_from_the_environment(audio: Path) -> None:
    settings = {"MODEL": "tiny.en", "DEVICE": "cpu", "OFFLINE": "true", "API_KEY": KEY, "DETAIL": "false"}
    environ = {**os.environ, **{f"WHISPER_SERVER_{name}": value for name, value in settings.items()}}
    with launched([*UVICORN, "--no-access-log"], environ, banner="running on http://") as server:
        files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
        assert httpx2.post(f"{server.url}/recognise", files=files).status_code == 401
        headers = {"authorization": f"Bearer {KEY}"}
        response = httpx2.post(f"{server.url}/recognise", files=files, headers=headers, timeout=60).json()
        assert "stove" in response["transcription"]["text"]
        assert "segments" not in response["transcription"]
        server.stop()
        assert "whisper_server.api.middleware.request_log" in server.remaining_log()


def test_a_factory_wants_a_key() -> None:
    """It cannot see what address it will listen on."""
    with pytest.raises(SettingsError, match="there is no key: set WHISPER_SERVER_API_KEY_FILE"):
        create_app()


@pytest.mark.usefixtures("own_logging")
def test_a_factory_without_a_key_has_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_SERVER_AUTH", "false")
    assert create_app().routes


def test_a_factory_refuses_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_SERVER_PORT", "x")
    with pytest.raises(SettingsError, match="WHISPER_SERVER_PORT"):
        create_app()
