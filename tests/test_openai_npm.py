"""The official npm SDK against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import TESTS
from servers import live_server

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> dict[str, Any]:
    """The results that tests/openai_npm/check.mjs prints."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(TESTS / "openai_npm" / "check.mjs", folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "openai"]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("needs the npm registry")
    with live_server() as server:
        command = ["node", "check.mjs", server.url, str(audio / "short.flac")]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    results: dict[str, Any] = json.loads(run.stdout)
    return results


def test_bodies(printed: dict[str, Any]) -> None:
    text = "The kettle is on the stove"
    assert printed["json"]["text"].startswith(text)
    assert printed["json"]["logprobs"]
    assert printed["verbose"]["language"] == "english"
    assert printed["verbose"]["words"] and printed["verbose"]["segments"]
    assert printed["translation"]["text"].startswith(text)
    starts = [printed[name][:6] for name in ("text", "srt", "vtt")]
    assert starts == ["The ke", "1\n00:0", "WEBVTT"]


def test_events(printed: dict[str, Any]) -> None:
    *deltas, done = printed["events"]
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "".join(event["delta"] for event in deltas)


def test_models(printed: dict[str, Any]) -> None:
    served, alias = printed["models"]
    assert served == printed["model"]
    assert (alias["id"], alias["alias_of"]) == ("whisper-1", served["id"])
    assert printed["model"]["id"] == "tiny.en"


def test_errors(printed: dict[str, Any]) -> None:
    assert printed["notFound"] == {
        "status": 404,
        "param": "model",
        "code": "model_not_found",
        "kind": "NotFoundError",
    }
    assert (printed["badRequest"]["status"], printed["badRequest"]["param"]) == (400, "response_format")


def test_nothing_was_sent_twice(printed: dict[str, Any]) -> None:
    assert printed["requests"] == 11
