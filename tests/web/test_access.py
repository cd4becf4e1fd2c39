"""A server that wants a key, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]
KEY = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server("--data-dir", str(tmp_path_factory.mktemp("data")), WHISPER_SERVER_API_KEY=KEY) as serving:
        yield serving


def enter(visitor: Visitor, key: str) -> None:
    visitor.page.fill("#key", key)
    visitor.page.keyboard.press("Enter")


def test_a_key_is_asked_for_and_forgotten_with_the_tab(visit: Visit, locked: LiveServer, audio: Path) -> None:
    visitor = visit(locked.url)
    visitor.page.wait_for_selector("#access-form:not([hidden])")
    enter(visitor, KEY)
    visitor.page.wait_for_selector("#model-dot.ready")
    visitor.transcribe(audio / "short.flac")
    visitor.page.reload()
    visitor.finish()
    visitor.wait("document.querySelector('#audio').duration > 2")
    assert visitor.page.is_hidden("#access-form")
    kept = visitor.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert KEY not in kept
    assert visit(locked.url).page.is_visible("#access-form")


def test_a_wrong_key_is_said_to_be_so(visit: Visit, locked: LiveServer) -> None:
    visitor = visit(locked.url)
    visitor.expected += ["401"]
    enter(visitor, "another-secret-of-nobody")
    visitor.page.wait_for_selector("#access-error:has-text('is not valid')")
    enter(visitor, KEY)
    visitor.page.wait_for_selector("#model-dot.ready")


def test_examples_say_that_a_key_is_needed(visit: Visit, locked: LiveServer) -> None:
    visitor = visit(f"{locked.url}/#developers")
    assert visitor.text("#examples").count("wsk-…") >= 5
