"""Accessibility, layout, size and options of the page."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import LiveServer
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("npm")
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "axe-core"]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("needs the npm registry")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def violations(visitor: Visitor, axe: str) -> list[Any]:
    visitor.page.evaluate(f"() => {{ {axe} }}")
    results = visitor.page.evaluate("async () => (await axe.run()).violations")
    return [
        (result["id"], [(node["html"], node["failureSummary"]) for node in result["nodes"]])
        for result in results
        if result["impact"] in ("serious", "critical")
    ]


@pytest.mark.network
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem(visit: Visit, server: LiveServer, sentences: Path, axe: str, scheme: str) -> None:
    visitor = visit(server.url, color_scheme=scheme)
    visitor.page.wait_for_selector("#model-dot.ready")
    visitor.page.click("#options summary")
    assert violations(visitor, axe) == []
    visitor.page.click("#model")
    assert violations(visitor, axe) == []
    visitor.page.keyboard.press("Escape")
    visitor.transcribe(sentences)
    assert violations(visitor, axe) == []
    visitor.page.click("#edit")
    assert violations(visitor, axe) == []
    for view in ("#live", "#developers", "#files"):
        visitor.page.goto(f"{server.url}/{view}")
        assert violations(visitor, axe) == []
    visitor.choose({"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"})
    assert violations(visitor, axe) == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_view_is_wider_than_the_screen(
    visit: Visit, server: LiveServer, sentences: Path, size: dict[str, int]
) -> None:
    visitor = visit(server.url, viewport=size)
    visitor.page.wait_for_selector("#model-dot.ready")
    visitor.page.click("#options summary")
    width = "document.documentElement.scrollWidth"
    assert visitor.page.evaluate(width) <= size["width"]
    visitor.transcribe(sentences)
    assert visitor.page.evaluate(width) <= size["width"]
    for view in ("#live", "#developers"):
        visitor.page.goto(f"{server.url}/{view}")
        assert visitor.page.evaluate(width) <= size["width"]


SHIFTS = """() => {
  window.shifts = [];
  const shift = (entry) => (entry.hadRecentInput ? 0 : entry.value);
  const record = (list) => window.shifts.push(...list.getEntries().map(shift));
  new PerformanceObserver(record).observe({ type: "layout-shift", buffered: false });
}"""


def test_the_layout_does_not_shift_while_segments_arrive(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url)
    visitor.page.wait_for_selector("#model-dot.ready")
    visitor.choose(audio / "long.flac")
    visitor.page.wait_for_selector("#segments li", timeout=60_000)
    visitor.page.evaluate(SHIFTS)
    visitor.page.wait_for_selector("#segments li:nth-child(12)", timeout=60_000)
    assert sum(visitor.page.evaluate("window.shifts")) < 0.01
    visitor.expected += ["/cancel"]  # the job may already have finished
    visitor.page.click("#cancel")
    visitor.page.wait_for_selector("#failure:not([hidden])")


def test_the_page_is_small_and_its_first_paint_is_recorded(
    visit: Visit, server: LiveServer, record_property: Callable[[str, object], None]
) -> None:
    visitor = visit(server.url)
    visitor.page.wait_for_selector("#model-dot.ready")
    transferred = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
      .reduce((sum, { transferSize }) => sum + transferSize, 0)"""
    assert visitor.page.evaluate(transferred) <= 150_000
    visitor.page.reload()
    paint = visitor.page.evaluate("""() => new Promise((resolve) => new PerformanceObserver((list) => resolve(
      list.getEntriesByName("first-contentful-paint")[0].startTime)).observe({ type: "paint", buffered: true }))""")
    record_property("first_contentful_paint_ms", paint)
    print(f"first contentful paint after {paint:.0f} ms, {visitor.page.evaluate(transferred) / 1e3:.0f} kB")


def test_without_javascript_the_form_still_works(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url, java_script_enabled=False)
    visitor.expected += ["/favicon.ico"]  # Chromium requests it because JSON cannot name an icon
    visitor.choose(audio / "short.flac")
    visitor.page.click("noscript button")
    visitor.page.wait_for_url("**/recognise")
    assert "kettle" in visitor.page.content()


def test_examples_contain_the_servers_address_and_can_be_copied(visit: Visit, server: LiveServer) -> None:
    visitor = visit(f"{server.url}/#developers", permissions=["clipboard-read", "clipboard-write"])
    for name in ("curl", "Python with requests", "Python with openai", "JavaScript"):
        visitor.page.click(f"[aria-label='Copy the example for {name}']")
        copied = visitor.page.evaluate("navigator.clipboard.readText()")
        assert server.url in copied
    assert visitor.page.get_by_role("link", name="API reference").get_attribute("href") == "docs"


RECORD_FORM = """() => {
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (form) {
    window.sent = [...form].filter(([, value]) => typeof value === "string");
    return send.call(this, form);
  };
}"""


def test_options_are_sent_and_remembered(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url)
    visitor.page.click("#options summary")
    visitor.page.select_option("#beam-size", "2")
    visitor.page.fill("#prompt", "A kettle.")
    visitor.page.uncheck("#words")
    visitor.page.check("#vad")
    visitor.page.reload()
    assert visitor.page.input_value("#prompt") == "A kettle."
    assert not visitor.page.is_checked("#words") and visitor.page.is_checked("#vad")
    visitor.page.evaluate(RECORD_FORM)
    visitor.transcribe(audio / "short.flac")
    sent = dict(visitor.page.evaluate("window.sent"))
    expected = {"beam_size": "2", "prompt": "A kettle.", "word_timestamps": "false", "vad_filter": "true"}
    assert expected.items() <= sent.items()
