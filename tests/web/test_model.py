"""The model in use, and another one instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server("--data-dir", str(tmp_path_factory.mktemp("data"))) as serving:
        yield serving


def switch(visitor: Visitor, name: str) -> None:
    visitor.page.click("#model")
    visitor.page.fill("#model-input", name)
    visitor.page.click("#model-switch")


def test_what_serves_and_another_instead(visit: Visit, own: LiveServer) -> None:
    visitor = visit(own.url)
    visitor.page.wait_for_selector("#model-name:has-text('tiny.en')")
    switch(visitor, "base")
    visitor.page.wait_for_selector("#model-name:has-text('loading base')")
    visitor.page.wait_for_selector("#model-time:has-text('base')")
    visitor.page.wait_for_selector("#model-message:has-text('Model base loaded')", timeout=60_000)
    visitor.page.wait_for_selector("#model-name:text-is('base')")
    facts = visitor.text("#model-details")
    assert "CPU, int8" in facts and "Memory planned" in facts
    assert visitor.page.is_hidden("#model-loading")


def test_a_model_that_does_not_exist_leaves_the_one_before(visit: Visit, own: LiveServer) -> None:
    visitor = visit(own.url)
    visitor.expected += ["status of 404", "status of 503", "status of 400"]
    switch(visitor, "no-such-model")
    visitor.page.wait_for_selector("#model-error:has-text('no-such-model')")
    visitor.page.wait_for_selector("#model-name:text-is('tiny.en')")
    assert visitor.page.is_enabled("#model-switch")
