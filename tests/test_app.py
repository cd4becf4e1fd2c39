"""The application factory, for servers that another process manager starts."""

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
from whisper_server.core.logs import VERBOSE_LOGGERS
from whisper_server.core.settings import SettingsError

KEY = "a-secret-of-the-tests"
UVICORN = [sys.executable, "-m", "uvicorn", "--factory", "whisper_server.app:create_app", "--port", "0"]


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Restore the logging of the whole process."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, VERBOSE_LOGGERS))}
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


def test_a_factory_reads_its_settings_from_the_environment(audio: Path) -> None:
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


def test_a_factory_requires_a_key() -> None:
    """It cannot know which address the server listens on."""
    with pytest.raises(SettingsError, match="there is no key: set WHISPER_SERVER_API_KEY_FILE"):
        create_app()


@pytest.mark.usefixtures("own_logging")
def test_a_factory_without_a_key_needs_an_explicit_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_SERVER_AUTH", "false")
    assert create_app().routes


def test_a_factory_rejects_invalid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_SERVER_PORT", "x")
    with pytest.raises(SettingsError, match="WHISPER_SERVER_PORT"):
        create_app()


def test_a_factory_does_not_listen_for_wyoming(monkeypatch: pytest.MonkeyPatch, own_logging: None) -> None:
    """Otherwise the setting would be ignored."""
    monkeypatch.setenv("WHISPER_SERVER_API_KEY", KEY)
    monkeypatch.setenv("WHISPER_SERVER_WYOMING", "tcp://127.0.0.1:0")
    with pytest.raises(SettingsError, match="WHISPER_SERVER_WYOMING needs the command whisper-server"):
        create_app()
