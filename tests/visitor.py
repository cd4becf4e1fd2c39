"""Drives the page in a browser and records its errors and requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Wait until a JavaScript expression is true. Playwright's function needs eval(), which the page forbids."""
    check = f"const check = () => ({expression}) ? resolve(true) : requestAnimationFrame(check); check()"
    timeout = f"setTimeout(() => resolve(false), {seconds * 1000})"
    assert page.evaluate(f"() => new Promise((resolve) => {{ {timeout}; {check}; }})"), (
        f"not true within {seconds} s: {expression}"
    )


class Visitor:
    """`expected` lists parts of the console errors that a test causes; browsers report each failed request there."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.expected: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._record)
        page.on("pageerror", lambda error: self.errors.append(f"{error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.goto(url)

    def _record(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def check(self) -> None:
        unexpected = [error for error in self.errors if not any(text in error for text in self.expected)]
        assert not unexpected, unexpected
        host = urlsplit(self.url).netloc
        foreign = [url for url in self.requests if not url.startswith("blob:") and urlsplit(url).netloc != host]
        assert not foreign, foreign

    def choose(self, *files: Path | dict[str, Any]) -> None:
        self.page.set_input_files("#file", list(files))

    def finish(self) -> None:
        """Wait until the transcript is complete."""
        self.page.wait_for_selector("#summary:has-text('took')", timeout=60_000)

    def transcribe(self, file: Path) -> None:
        self.choose(file)
        self.finish()

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def wait(self, expression: str, seconds: float = 30.0) -> None:
        until(self.page, expression, seconds)

    def highlighted(self, name: str) -> list[str]:
        """Return the texts that a CSS highlight covers."""
        script = "name => [...CSS.highlights.get(name)].map(range => range.toString())"
        texts: list[str] = self.page.evaluate(script, name)
        return texts
