"""A transcript on the page: playback, keyboard, search, edits and downloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from servers import LiveServer
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser


@pytest.fixture
def reader(visit: Visit, server: LiveServer, sentences: Path) -> Visitor:
    """A visitor with an open transcript."""
    visitor = visit(server.url, permissions=["clipboard-read", "clipboard-write"])
    visitor.transcribe(sentences)
    visitor.wait("document.querySelector('#audio').duration > 10")
    return visitor


def download(visitor: Visitor, ending: str) -> str:
    with visitor.page.expect_download() as downloading:
        visitor.page.click(f"[data-download={ending}]")
    assert downloading.value.suggested_filename == f"sentences.{ending}"
    return Path(downloading.value.path()).read_text(encoding="utf-8")


def test_the_current_word_is_highlighted(reader: Visitor) -> None:
    reader.page.click("#play")
    reader.wait("[...CSS.highlights.get('current-word')].length > 0")
    reader.page.click("#play")
    (word,) = reader.highlighted("current-word")
    assert word and " " not in word
    assert reader.page.locator("#segments li[aria-current]").count() == 1


def test_a_click_on_a_word_plays_from_it(reader: Visitor) -> None:
    paragraph = reader.page.locator("#segments li:nth-child(2) p")
    box = paragraph.bounding_box()
    assert box is not None
    paragraph.click(position={"x": min(150, box["width"] - 5), "y": 12})
    reader.wait("!document.querySelector('#audio').paused")
    reader.page.click("#play")
    start = reader.page.evaluate("document.querySelector('#audio').currentTime")
    assert start > 1


def test_the_keyboard_plays_skips_and_moves_between_segments(reader: Visitor) -> None:
    page = reader.page
    page.focus("#segments .time[tabindex='0']")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('li') === document.querySelector('#segments li:nth-child(2)')")
    page.keyboard.press("ArrowRight")
    reader.wait("document.querySelector('#audio').currentTime >= 5")
    page.keyboard.press("Enter")
    reader.wait("!document.querySelector('#audio').paused")
    page.keyboard.press("Space")
    reader.wait("document.querySelector('#audio').paused")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_search_counts_matches_and_moves_between_them(reader: Visitor) -> None:
    reader.page.fill("#search", "the")
    reader.wait("document.querySelector('#match-count').textContent.startsWith('1 of')")
    assert {text.lower() for text in reader.highlighted("match")} == {"the"}
    reader.page.press("#search", "Enter")
    assert reader.text("#match-count").startswith("2 of")
    reader.page.fill("#search", "zyx")
    assert reader.text("#match-count") == "none"


def test_edits_are_stored_and_downloaded_in_every_format(reader: Visitor) -> None:
    page = reader.page
    page.click("#edit")
    first = page.locator("#segments li:first-child p")
    before = first.inner_text()
    changed = f"Edited --> {before}"
    first.fill(changed)
    page.locator("#segments li:nth-child(2) p").click()
    page.click("#edit")
    assert download(reader, "txt").startswith(changed)
    assert changed.replace("-->", "->") in download(reader, "srt")
    assert download(reader, "vtt").startswith("WEBVTT\n\n")
    assert download(reader, "tsv").split("\n")[1].split("\t")[2] == changed
    words = json.loads(download(reader, "json"))["segments"][0]["words"]
    assert [word["word"] for word in words][:2] == ["Edited", "-->"]
    assert " ".join(word["word"] for word in words) == changed
    assert all(a["end"] <= b["start"] + 1e-6 for a, b in zip(words, words[1:], strict=False))
    page.reload()
    reader.finish()
    assert page.locator("#segments li:first-child p").inner_text() == changed


def test_escape_discards_an_edit(reader: Visitor) -> None:
    first = reader.page.locator("#segments li:first-child p")
    before = first.inner_text()
    first.dblclick()
    first.fill("nonsense")
    reader.page.keyboard.press("Escape")
    assert first.inner_text() == before


def test_downloads_equal_the_servers_files(reader: Visitor, server: LiveServer) -> None:
    job = reader.page.url.split("#")[1]
    for ending, response_format in {"srt": "srt", "vtt": "vtt", "tsv": "tsv"}.items():
        url = f"{server.url}/v1/jobs/{job}/result?response_format={response_format}"
        assert download(reader, ending) == httpx2.get(url).text


def test_the_text_can_be_copied(reader: Visitor) -> None:
    reader.page.click("#copy")
    reader.page.wait_for_selector("#copy-label:has-text('Copied')")
    copied = reader.page.evaluate("navigator.clipboard.readText()")
    assert copied.split() == reader.page.evaluate(
        "[...document.querySelectorAll('#segments p')].map(p => p.textContent).join(' ').split(/\\s+/)"
    )


def test_the_waveform_is_drawn(reader: Visitor) -> None:
    top_rows = "document.querySelector('#waveform').getContext('2d').getImageData(0, 0, 300, 6).data"
    reader.wait(f"{top_rows}.some((value) => value > 0)")  # without peaks, no bar reaches the top


TIMING = """async () => {
  const { locateWords, wordsOfSegments, retimeWords } = await import("./web/transcript/word-timing.js");
  const words = locateWords([{ word: " one", start: 0, end: 1 }, { word: " two", start: 1, end: 2 },
    { word: " three.", start: 2, end: 3 }], "one two three.");
  const edited = retimeWords(words, "one two three.", "one 2 or two three.", { start: 0, end: 3 });
  const chinese = wordsOfSegments([{ word: "你", start: 0, end: 1 }, { word: "好", start: 1, end: 2 },
    { word: "吗", start: 2, end: 3 }], ["你好", "吗"]);
  return [edited.map(({ at, length, start, end }) => ["one 2 or two three.".slice(at, at + length), start, end]),
    chinese.map((words) => words.length)];
}"""


def test_unchanged_words_keep_their_times_after_an_edit(visit: Visit, server: LiveServer) -> None:
    edited, chinese = visit(server.url).page.evaluate(TIMING)
    assert [word for word, _, _ in edited] == ["one", "2", "or", "two", "three."]
    assert edited[0] == ["one", 0, 1] and edited[-2:] == [["two", 1, 2], ["three.", 2, 3]]
    assert chinese == [2, 1]


SPEAKERS = """async () => {
  const { TranscriptView } = await import("./web/transcript/transcript-view.js");
  const { Transcript } = await import("./web/transcript/transcript.js");
  document.querySelector("#transcript").hidden = false;
  const transcript = new Transcript({ name: "two", language: "en" });
  transcript.add({ start: 0, end: 1, text: " Hello.", speaker: "A" });
  transcript.add({ start: 1, end: 2, text: " Hi." });
  new TranscriptView().show(transcript);
  const texts = (row) => [...row.children].map((cell) => cell.textContent);
  const rows = [...document.querySelectorAll("#transcript li")].map(texts);
  return [rows, transcript.toJson().segments.map(({ speaker }) => speaker ?? null)];
}"""


def test_speaker_labels_are_shown_and_exported(visit: Visit, server: LiveServer) -> None:
    rows, speakers = visit(server.url).page.evaluate(SPEAKERS)
    assert rows == [["0:00", "A", "Hello."], ["0:01", "Hi."]]
    assert speakers == ["A", None]


LONG = """async () => {
  const { TranscriptView } = await import("./web/transcript/transcript-view.js");
  const { Transcript } = await import("./web/transcript/transcript.js");
  document.querySelector("#files").hidden = true;
  document.querySelector("#transcript").hidden = false;
  const transcript = new Transcript({ name: "three hours", language: "ar" });
  for (let i = 0; i < 3600; i += 1) {
    const words = [..."مرحبا بكم في هذا اليوم الجميل".split(" ")].map((word, j) => (
      { word: ` ${word}`, start: 3 * i + j / 2, end: 3 * i + j / 2 + 0.5, probability: j ? 0.9 : 0.2 }));
    transcript.add({ start: 3 * i, end: 3 * i + 3, text: words.map(({ word }) => word).join(""), words });
  }
  const started = performance.now();
  new TranscriptView().show(transcript);
  document.body.offsetHeight;
  const shown = performance.now() - started;
  const frames = [];
  for (let y = 0; y < 60; y += 1) {
    const before = performance.now();
    scrollTo(0, y * 900);
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - before);
  }
  const first = document.querySelector("#segments p");
  return { shown, slowest: Math.max(...frames.slice(5)), direction: getComputedStyle(first).direction,
    lang: document.querySelector("#segments").lang };
}"""


def test_three_hours_scroll_smoothly_from_right_to_left(visit: Visit, server: LiveServer) -> None:
    result = visit(server.url).page.evaluate(LONG)
    assert result["direction"] == "rtl" and result["lang"] == "ar"
    assert result["shown"] < 3000
    assert result["slowest"] < 500
