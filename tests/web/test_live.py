"""Captions on the page, from a microphone that plays a file."""

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
KEY = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def microphone(chromium: Callable[..., Any], audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A browser whose microphone plays sentences.flac over and over."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    samples = decode_audio(str(audio / "sentences.flac"))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return chromium(*fake, f"--use-file-for-fake-audio-capture={path}")


def listen(visitor: Visitor) -> None:
    visitor.page.click("#live-link")
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_selector("#final-captions p", timeout=60_000)


def test_captions_then_a_transcript_with_its_recording(visit: Visit, server: LiveServer, microphone: Any) -> None:
    visitor = visit(server.url, browser=microphone)
    listen(visitor)
    assert visitor.text("#live-status") == "Listening"
    visitor.wait(
        "document.querySelector('#level-meter').getContext('2d').getImageData(0, 0, 480, 40).data.some(v => v)"
    )
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_url("**/#recording", timeout=60_000)
    assert len(visitor.text("#segments")) > 20
    visitor.wait("document.querySelector('#audio').duration > 1")
    with visitor.page.expect_download() as download:
        visitor.page.click("#download-audio")
    with wave.open(str(download.value.path())) as file:
        assert file.getnchannels() == 1
        heard = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    assert np.abs(heard).max() > 1000
    assert visitor.page.evaluate("[...document.querySelectorAll('#segments .time')].length") > 0


def test_two_tabs_listen_at_once(visit: Visit, server: LiveServer, microphone: Any) -> None:
    one, other = visit(server.url, browser=microphone), visit(server.url, browser=microphone)
    listen(one)
    listen(other)
    assert one.text("#live-status") == other.text("#live-status") == "Listening"


def test_a_browser_that_refuses_the_microphone(visit: Visit, server: LiveServer) -> None:
    visitor = visit(server.url)
    visitor.page.click("#live-link")
    visitor.page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') } }"
    )
    visitor.page.click("#live-toggle")
    visitor.page.wait_for_selector("#live-error:has-text('Allow it for this page')")
    assert visitor.text("#live-toggle") == "Start"


def test_a_page_that_is_not_on_localhost_says_what_it_needs(visit: Visit, chromium: Callable[..., Any]) -> None:
    (address, *_) = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split() or [""]
    if not address:
        pytest.skip("needs an address besides localhost")
    with live_server("--host", "0.0.0.0", "--no-auth", "--no-jobs") as server:
        visitor = visit(f"http://{address}:{server.url.rsplit(':', 1)[1]}")
        visitor.page.click("#live-link")
        visitor.page.click("#live-toggle")
        visitor.page.wait_for_selector("#live-error:has-text('localhost')")


def test_a_server_that_is_lost_leaves_the_words_and_the_recording(visit: Visit, microphone: Any) -> None:
    with live_server("--no-jobs") as server:
        visitor = visit(server.url, browser=microphone)
        visitor.expected += ["ERR_", "WebSocket"]
        listen(visitor)
        server.process.kill()
        visitor.page.wait_for_selector("#live-error:not(:empty)")
        visitor.page.click("#live-result a")
        assert len(visitor.text("#segments")) > 10
        assert visitor.page.is_visible("#download-audio")


def test_the_key_goes_with_it(visit: Visit, microphone: Any, tmp_path: Path) -> None:
    with live_server("--data-dir", str(tmp_path), WHISPER_SERVER_API_KEY=KEY) as server:
        visitor = visit(server.url, browser=microphone)
        visitor.page.fill("#key", KEY)
        visitor.page.keyboard.press("Enter")
        listen(visitor)
