"""The page on a server that requires an API key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser
KEY = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server("--data-dir", str(tmp_path_factory.mktemp("data")), WHISPER_SERVER_API_KEY=KEY) as live:
        yield live


def enter(visitor: Visitor, key: str) -> None:
    visitor.page.fill("#key", key)
    visitor.page.keyboard.press("Enter")


def test_the_key_is_requested_and_forgotten_with_the_tab(visit: Visit, protected: LiveServer, audio: Path) -> None:
    visitor = visit(protected.url)
    visitor.page.wait_for_selector("#access-form:not([hidden])")
    enter(visitor, KEY)
    visitor.page.wait_for_selector("#model-dot.ready")
    visitor.transcribe(audio / "short.flac")
    visitor.page.reload()
    visitor.finish()
    visitor.wait("document.querySelector('#audio').duration > 2")
    assert visitor.page.is_hidden("#access-form")
    stored = visitor.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert KEY not in stored
    visit(protected.url).page.wait_for_selector("#access-form:not([hidden])")


def test_an_invalid_key_is_reported(visit: Visit, protected: LiveServer) -> None:
    visitor = visit(protected.url)
    visitor.expected += ["401"]
    enter(visitor, "not-the-secret-of-the-tests")
    visitor.page.wait_for_selector("#access-error:has-text('is not valid')")
    enter(visitor, KEY)
    visitor.page.wait_for_selector("#model-dot.ready")


def test_examples_contain_a_key(visit: Visit, protected: LiveServer) -> None:
    visitor = visit(f"{protected.url}/#developers")
    assert visitor.text("#examples").count("wsk-…") >= 5


def test_the_api_reference_requests_the_key_once(visit: Visit, protected: LiveServer) -> None:
    visitor = visit(f"{protected.url}/docs")
    visitor.expected += ["401"]
    enter(visitor, "not-the-secret-of-the-tests")
    visitor.page.wait_for_selector("#access-error:has-text('is not valid')")
    enter(visitor, KEY)
    visitor.page.wait_for_selector("#operations section")
    visitor.page.reload()
    visitor.page.wait_for_selector("#operations section")
    assert visitor.page.is_hidden("#access-form")
