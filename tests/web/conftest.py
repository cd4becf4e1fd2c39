from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers import LiveServer, live_server
from visitor import Visitor


@pytest.fixture(scope="module")
def chromium() -> Iterator[Callable[..., Any]]:
    """Launches Chromium with additional flags."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("needs Chromium (apt install chromium)")
    playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra web-tests)")
    with playwright_api.sync_playwright() as playwright, ExitStack() as stack:

        def launch(*flags: str) -> Any:
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=executable, args=[*sandbox, *flags])
            stack.callback(browser.close)
            return browser

        yield launch


@pytest.fixture(scope="module")
def browser(chromium: Callable[..., Any]) -> Any:
    return chromium()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server("--data-dir", str(tmp_path_factory.mktemp("data"))) as live:
        yield live


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    """Opens a page and afterwards checks that no unexpected error has occurred in it."""
    with ExitStack() as stack:

        def open_page(url: str, **options: Any) -> Visitor:
            context = (options.pop("browser", None) or browser).new_context(**options)
            stack.callback(context.close)
            visitor = Visitor(context.new_page(), url)
            stack.callback(visitor.check)
            return visitor

        yield open_page


@pytest.fixture
def sentences(audio: Path) -> Path:
    return audio / "sentences.flac"
