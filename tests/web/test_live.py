"""Live captions on the page, from a fake microphone that plays a file."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser
KEY = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def microphone(chromium: Callable[..., Any], audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A browser whose fake microphone plays sentences.flac in a loop."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    samples = decode_audio(str(audio / "sentences.flac"))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return chromium(*flags, f"--use-file-for-fake-audio-capture={path}")


def listen(visitor: Visitor) -> None:
    visitor.page.click("#live-link")
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_selector("#final-captions p", timeout=60_000)


def test_captions_become_a_transcript_with_a_recording(visit: Visit, server: LiveServer, microphone: Any) -> None:
    visitor = visit(server.url, browser=microphone)
    listen(visitor)
    assert visitor.text("#live-status") == "Listening"
    visitor.wait(
        "document.querySelector('#level-meter').getContext('2d').getImageData(0, 0, 480, 40).data.some(v => v)"
    )
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_url("**/#recording", timeout=60_000)
    visitor.wait("document.querySelector('#segments').textContent.length > 20")
    visitor.wait("document.querySelector('#audio').duration > 1")
    with visitor.page.expect_download() as download:
        visitor.page.click("#download-audio")
    with wave.open(str(download.value.path())) as file:
        assert file.getnchannels() == 1
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    assert np.abs(samples).max() > 1000
    assert visitor.page.evaluate("[...document.querySelectorAll('#segments .time')].length") > 0


def test_two_tabs_can_be_live_at_the_same_time(visit: Visit, server: LiveServer, microphone: Any) -> None:
    first, second = visit(server.url, browser=microphone), visit(server.url, browser=microphone)
    listen(first)
    listen(second)
    assert first.text("#live-status") == second.text("#live-status") == "Listening"


def test_a_blocked_microphone_is_explained(visit: Visit, server: LiveServer) -> None:
    visitor = visit(server.url)
    visitor.page.click("#live-link")
    visitor.page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') } }"
    )
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_selector("#live-error:has-text('Allow it for this page')")
    assert visitor.text("#live-toggle") == "Start"


def test_a_page_outside_localhost_explains_its_requirements(visit: Visit, chromium: Callable[..., Any]) -> None:
    (address, *_) = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split() or [""]
    if not address:
        pytest.skip("needs a network address other than localhost")
    with live_server("--host", "0.0.0.0", "--no-auth", "--no-jobs") as server:
        visitor = visit(f"http://{address}:{server.url.rsplit(':', 1)[1]}")
        visitor.page.click("#live-link")
        visitor.page.click("#live-toggle")
        visitor.page.wait_for_selector("#live-error:has-text('localhost')")


def test_a_lost_connection_keeps_the_transcript_and_the_recording(visit: Visit, microphone: Any) -> None:
    with live_server("--no-jobs") as server:
        visitor = visit(server.url, browser=microphone)
        visitor.expected += ["ERR_", "WebSocket"]
        listen(visitor)
        server.process.kill()
        visitor.page.wait_for_selector("#live-error:not(:empty)")
        visitor.page.click("#live-result a")
        assert len(visitor.text("#segments")) > 10
        assert visitor.page.is_visible("#download-audio")


def test_live_captions_work_with_a_key(visit: Visit, microphone: Any, tmp_path: Path) -> None:
    with live_server("--data-dir", str(tmp_path), WHISPER_SERVER_API_KEY=KEY) as server:
        visitor = visit(server.url, browser=microphone)
        visitor.page.fill("#key", KEY)
        visitor.page.keyboard.press("Enter")
        listen(visitor)
