"""The model panel of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server("--data-dir", str(tmp_path_factory.mktemp("data"))) as live:
        yield live


def switch(visitor: Visitor, name: str) -> None:
    visitor.page.click("#model")
    visitor.page.fill("#model-input", name)
    visitor.page.click("#model-switch")


def test_the_model_is_shown_and_can_be_switched(visit: Visit, own_server: LiveServer) -> None:
    visitor = visit(own_server.url)
    visitor.page.wait_for_selector("#model-name:has-text('tiny.en')")
    switch(visitor, "base")
    visitor.page.wait_for_selector("#model-name:has-text('loading base')")
    visitor.page.wait_for_selector("#model-time:has-text('base')")
    visitor.page.wait_for_selector("#model-message:has-text('Model base loaded')", timeout=60_000)
    visitor.page.wait_for_selector("#model-name:text-is('base')")
    details = visitor.text("#model-details")
    assert "CPU, int8" in details and "Planned memory" in details
    assert visitor.page.is_hidden("#model-loading")


def test_an_unknown_model_leaves_the_current_one_in_use(visit: Visit, own_server: LiveServer) -> None:
    visitor = visit(own_server.url)
    visitor.expected += ["status of 404", "status of 503", "status of 400"]
    switch(visitor, "no-such-model")
    visitor.page.wait_for_selector("#model-error:has-text('no-such-model')")
    visitor.page.wait_for_selector("#model-name:text-is('tiny.en')")
    assert visitor.page.is_enabled("#model-switch")
