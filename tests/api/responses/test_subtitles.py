"""The files are openai-whisper's, byte for byte: `tests/golden` holds what its own writers wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import TESTS

from whisper_server.api.requests.options import SubtitleLayout
from whisper_server.api.responses import subtitles
from whisper_server.inference.transcription.segments import Segment, Word

GOLDEN = TESTS / "golden" / "tiny.en"


def segments(stem: str) -> list[Segment]:
    return [segment(items) for items in json.loads((GOLDEN / f"{stem}.json").read_text())["segments"]]


def segment(items: dict[str, Any]) -> Segment:
    words = (
        [Word(w["word"], w["start"], w["end"], w["probability"]) for w in items["words"]] if "words" in items else None
    )
    return Segment(**{**{name: value for name, value in items.items() if name != "id"}, "words": words})


def spoken_segment(*words: Word, text: str = "") -> Segment:
    content = text or "".join(word.text for word in words)
    start, end = (words[0].start, words[-1].end) if words else (0.0, 1.0)
    return Segment(0, start, end, content, [], 0.0, 1.0, 0.0, 0.0, list(words) or None)


def written(stem: str) -> str:
    return (GOLDEN / stem).read_text()


def test_plain_files_equal_openai_whispers() -> None:
    items = segments("sentences")
    assert subtitles.txt(items) == written("sentences.txt")
    assert subtitles.tsv(items) == written("sentences.tsv")
    assert subtitles.srt(items, SubtitleLayout()) == written("sentences.srt")
    assert subtitles.vtt(items, SubtitleLayout()) == written("sentences.vtt")


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("long.highlight.srt", SubtitleLayout(highlight_words=True)),
        ("long.width.srt", SubtitleLayout(max_line_width=42, max_line_count=2)),
        ("long.width.vtt", SubtitleLayout(max_line_width=42, max_line_count=2)),
        ("long.words.vtt", SubtitleLayout(max_words_per_line=5)),
        ("long.width_only.srt", SubtitleLayout(max_line_width=30)),
    ],
)
def test_word_layouts_equal_openai_whispers(file: str, layout: SubtitleLayout) -> None:
    write = subtitles.srt if file.endswith(".srt") else subtitles.vtt
    assert write(segments("long.words"), layout) == written(file)


def test_a_long_pause_starts_a_new_cue_if_lines_are_limited() -> None:
    items = [spoken_segment(Word(" one", 0.0, 0.5, 1.0), Word(" two", 5.0, 5.5, 1.0))]
    assert subtitles.srt(items, SubtitleLayout(max_line_width=42, max_line_count=2)) == (
        "1\n00:00:00,000 --> 00:00:00,500\none\n\n2\n00:00:05,000 --> 00:00:05,500\ntwo\n\n"
    )


def test_vtt_omits_hours_that_are_zero() -> None:
    items = [spoken_segment(Word(" late", 3599.9996, 3661.25, 1.0))]
    assert subtitles.vtt(items, SubtitleLayout()) == "WEBVTT\n\n01:00:00.000 --> 01:01:01.250\nlate\n\n"


def test_text_cannot_forge_a_time_range_or_a_column() -> None:
    items = [spoken_segment(text=" a --> b\tc ")]
    assert "a -> b\tc" in subtitles.srt(items, SubtitleLayout())
    assert subtitles.tsv(items).splitlines()[1] == "0\t1000\ta --> b c"


def test_no_segments_give_empty_files() -> None:
    assert subtitles.txt([]) == ""
    assert subtitles.srt([], SubtitleLayout(highlight_words=True)) == ""
    assert subtitles.vtt([], SubtitleLayout()) == "WEBVTT\n\n"
    assert subtitles.tsv([]) == "start\tend\ttext\n"
