"""Takes the screenshots in docs/screenshots: the views of the page, light and dark, on a desktop and a phone.

python scripts/make_screenshots.py            # needs the extra `dev`, the model tiny.en and Chromium
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from faster_whisper.audio import decode_audio
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
AUDIO = ROOT / "tests" / "audio"
TARGET = ROOT / "docs" / "screenshots"
SCREENS = {"desktop": {"width": 1120, "height": 760}, "phone": {"width": 390, "height": 780}}

sys.path.insert(0, str(ROOT / "tests"))
from servers import live_server  # noqa: E402 - it is found below the path that the line above adds
from visitor import until  # noqa: E402 - so is this


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data, live_server("--data-dir", data) as server, browser(data) as chromium:
        for scheme in ("light", "dark"):
            for screen, size in SCREENS.items():
                context = chromium.new_context(viewport=size, color_scheme=scheme)
                visit(context.new_page(), server.url, f"{scheme}-{screen}")
                context.close()


@contextmanager
def browser(data: str) -> Iterator[Any]:
    """A browser whose fake microphone plays a recording."""
    microphone = Path(data) / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((decode_audio(str(AUDIO / "long.flac")) * 32767).astype("<i2").tobytes())
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += [f"--use-file-for-fake-audio-capture={microphone}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield chromium
        chromium.close()


def visit(page: Any, url: str, kind: str) -> None:
    """Take the screenshots of one kind; those of slow states only in some kinds."""

    def shoot(name: str) -> None:
        save(page.screenshot(animations="disabled"), TARGET / f"{name}-{kind}.webp")

    page.goto(url)
    page.wait_for_selector("#model-dot.ready")
    if kind == "light-desktop":
        page.set_input_files("#file", AUDIO / "long.flac")
        page.wait_for_selector("#segments li:nth-child(4)", timeout=120_000)
        shoot("transcribing")
        page.wait_for_selector("#summary:has-text('took')", timeout=240_000)
        page.click(".back")
    page.wait_for_selector("#jobs li")
    shoot("files")
    page.click("#model")
    shoot("model")
    page.keyboard.press("Escape")
    page.goto(f"{url}/#developers")
    shoot("developers")
    page.goto(f"{url}/#files")
    play(page)
    shoot("transcript")
    if kind in ("light-desktop", "dark-phone"):
        listen(page)
        shoot("live")
        page.click("#live-toggle")


def save(png: bytes, path: Path) -> None:
    """Save as lossless WebP, which is a third of the size of PNG."""
    with av.open(io.BytesIO(png), "r") as source, av.open(str(path), "w", format="webp") as target:
        frame = next(source.decode(video=0)).reformat(format="bgra")
        stream = target.add_stream("libwebp", rate=1, options={"lossless": "1", "compression_level": "6"})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "bgra"
        target.mux([*stream.encode(frame), *stream.encode()])


def play(page: Any) -> None:
    page.click("#jobs a")
    page.wait_for_selector("#summary:has-text('took')")
    until(page, "document.querySelector('#audio').duration > 10")
    page.evaluate("() => { document.querySelector('#audio').muted = true; }")
    page.locator("#segments li:nth-child(3) .time").click()
    until(page, "CSS.highlights.get('current-word').size > 0")
    page.wait_for_timeout(1500)
    page.click("#play")


def listen(page: Any) -> None:
    page.click("#live-link")
    page.click("#live-toggle")
    page.wait_for_selector("#final-captions p:nth-child(2)", timeout=120_000)
    until(page, "document.querySelector('#pending').textContent.length > 8", 60)


if __name__ == "__main__":
    main()
