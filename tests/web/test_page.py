"""A file becomes a transcript on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from servers import LiveServer
from visitor import Visitor

Visit = Callable[..., Visitor]


def test_a_chosen_file_starts_at_once_and_shows_segments_as_they_arrive(
    visit: Visit, server: LiveServer, sentences: Path
) -> None:
    visitor = visit(server.url)
    visitor.choose(sentences)
    visitor.wait("document.querySelectorAll('#segments li').length > 0")
    visitor.finish()
    assert "kettle" in visitor.text("#segments") or len(visitor.text("#segments")) > 40
    assert "English" in visitor.text("#summary")
    assert "#job_" in visitor.page.url
    assert visitor.page.is_visible("#player") and visitor.page.is_hidden("#progress")
