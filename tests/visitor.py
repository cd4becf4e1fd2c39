"""Somebody who uses the page in a browser, and notes whatever goes wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Wait until a JavaScript expression holds. Playwright's own way needs eval(), which the page's policy forbids."""
    look = f"const look = () => ({expression}) ? resolve(true) : requestAnimationFrame(look); look()"
    late = f"setTimeout(() => resolve(false), {seconds * 1000})"
    assert page.evaluate(f"() => new Promise((resolve) => {{ {late}; {look}; }})"), (
        f"not within {seconds} s: {expression}"
    )


class Visitor:
    """`expected` are pieces of console errors that belong to a test: browsers report each refused request there."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.expected: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(f"{error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.goto(url)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def check(self) -> None:
        unknown = [error for error in self.errors if not any(piece in error for piece in self.expected)]
        assert not unknown, unknown
        host = urlsplit(self.url).netloc
        foreign = [url for url in self.requests if not url.startswith("blob:") and urlsplit(url).netloc != host]
        assert not foreign, foreign

    def choose(self, *files: Path | dict[str, Any]) -> None:
        self.page.set_input_files("#file", list(files))

    def finish(self) -> None:
        """Wait for the transcript."""
        self.page.wait_for_selector("#summary:has-text('took')", timeout=60_000)

    def transcribe(self, file: Path) -> None:
        self.choose(file)
        self.finish()

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def wait(self, expression: str, seconds: float = 30.0) -> None:
        until(self.page, expression, seconds)

    def highlighted(self, name: str) -> list[str]:
        """The texts that a CSS highlight covers."""
        script = "name => [...CSS.highlights.get(name)].map(range => range.toString())"
        texts: list[str] = self.page.evaluate(script, name)
        return texts
