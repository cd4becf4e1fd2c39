from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from httpx2 import Response
from recorder import pcm16, wav
from starlette.testclient import TestClient

from whisper_server.api.openapi.schemas import SCHEMAS

ALIGNMENTS = "/v1/audio/alignments"

Post = Callable[..., Response]


@pytest.fixture
def post(client: TestClient, audio: Path, texts: dict[str, str]) -> Post:
    def post(
        clip: str = "sentences",
        headers: dict[str, str] | None = None,
        files: dict[str, tuple[str, bytes]] | None = None,
        **fields: str,
    ) -> Response:
        file = (f"{clip}.flac", (audio / f"{clip}.flac").read_bytes())
        data = {**({"text": texts[clip]} if "text" not in (files or {}) else {}), **fields}
        return client.post(ALIGNMENTS, files={"file": file, **(files or {})}, data=data, headers=headers)

    return post


def error(response: Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    failure: dict[str, Any] = response.json()["error"]
    assert list(failure) == ["message", "type", "param", "code"]
    return failure


def test_the_json_has_words_and_segments(post: Post, texts: dict[str, str]) -> None:
    body = post().json()
    whole = {"$ref": "#/components/schemas/Alignment", "components": {"schemas": SCHEMAS}}
    jsonschema_rs.validate(whole, body)
    assert list(body) == ["task", "language", "duration", "text", "words", "segments", "usage"]
    assert (body["task"], body["language"], body["text"]) == ("align", "english", texts["sentences"])
    assert [word["word"] for word in body["words"]] == texts["sentences"].split()
    assert [segment["text"][:9] for segment in body["segments"]] == ["On Monday", "It was 82", "So he too"]
    assert body["segments"][1]["start"] == body["words"][10]["start"]
    assert all(word["start"] <= word["end"] <= body["duration"] for word in body["words"])


def test_a_text_may_be_a_file(post: Post, texts: dict[str, str]) -> None:
    content = b"\xef\xbb\xbf" + texts["sentences"].encode()
    assert post(files={"text": ("text.txt", content)}).json() == post().json()


def test_words_that_are_not_spoken_have_no_times(post: Post) -> None:
    text = "The kettle is on the stove, and the tea is almost ready. " + "Nobody has ever said this sentence here. " * 4
    body = post(clip="short", text=text).json()
    assert body["words"][11]["end"] > 2
    assert body["words"][12] == {"word": "Nobody", "start": None, "end": None, "probability": 0.0}
    assert {segment["start"] for segment in body["segments"][1:]} == {None}
    subtitles = post(clip="short", text=text, response_format="srt").text
    assert "kettle" in subtitles and "Nobody" not in subtitles


@pytest.mark.parametrize(
    ("response_format", "content_type", "first_cue"),
    [
        (
            "srt",
            "application/x-subrip; charset=utf-8",
            r"1\n00:00:00,\d{3} --> 00:00:0\d,\d{3}\nOn Monday .* door\.\n\n2",
        ),
        ("vtt", "text/vtt; charset=utf-8", r"WEBVTT\n\n00:00\.\d{3} --> 00:0\d\.\d{3}\nOn Monday .* door\.\n\n00"),
    ],
)
def test_subtitles_have_a_cue_for_each_segment(
    post: Post, response_format: str, content_type: str, first_cue: str
) -> None:
    response = post(response_format=response_format)
    assert response.headers["content-type"] == content_type
    assert re.match(first_cue, response.text)
    assert len(post(response_format=response_format, segment_by="line").text) < len(response.text)


def test_subtitles_have_a_layout(post: Post) -> None:
    assert post(response_format="srt", max_words_per_line="3").text.splitlines()[2] == "On Monday morning,"


def test_an_arrow_does_not_end_a_cue(post: Post) -> None:
    assert post(clip="short", text="The kettle --> is on the stove", response_format="vtt").text.count("-->") == 1


@pytest.mark.parametrize(
    "fields",
    [pytest.param({"mode": "sequential"}, marks=pytest.mark.full), {"encoder_window": "full"}, {"language": "en"}],
)
def test_options_change_how_the_audio_is_transcribed(post: Post, fields: dict[str, str]) -> None:
    words, expected = post(**fields).json()["words"], post().json()["words"]
    assert [word["word"] for word in words] == [word["word"] for word in expected]
    assert np.median([abs(a["start"] - b["start"]) for a, b in zip(words, expected, strict=True)]) < 0.08


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_text_is_required(post: Post, text: str) -> None:
    for response in (post(text=text), post(files={"text": ("text.txt", text.encode())})):
        failure = error(response, 400)
        assert (failure["param"], failure["code"]) == ("text", "missing_required_parameter")


def test_a_file_is_required(client: TestClient) -> None:
    for files in (None, {"text": ("text.txt", b"text")}):
        failure = error(client.post(ALIGNMENTS, data={"model": "tiny.en"}, files=files), 400)
        assert (failure["param"], failure["code"]) == ("file", "missing_required_parameter")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"x" * 500_001], ids=["not UTF-8", "NUL", "too long"])
def test_a_file_that_is_no_text_is_a_400(post: Post, content: bytes) -> None:
    assert error(post(files={"text": ("text.txt", content)}), 400)["param"] == "text"


def test_a_field_with_too_much_text_is_a_400(post: Post) -> None:
    assert "64KB" in error(post(text="x" * 70_000), 400)["message"]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("language", "de", 400),
        ("language", "xx", 400),
        ("response_format", "text", 400),
        ("segment_by", "word", 400),
        ("mode", "fast", 400),
        ("timeout", "-1", 400),
        ("max_line_width", "0", 400),
        ("model", "large-v3", 404),
    ],
)
def test_a_wrong_value_is_named(post: Post, name: str, value: str, status: int) -> None:
    assert error(post(clip="short", **{name: value}), status)["param"] == name


def test_a_file_without_audio_is_a_400(client: TestClient) -> None:
    response = client.post(ALIGNMENTS, files={"file": ("a.flac", b"no audio")}, data={"text": "text"})
    assert error(response, 400)["code"] == "invalid_audio"


def test_silence_has_no_words(client: TestClient) -> None:
    file = wav(pcm16(np.zeros(16_000, np.float32)))
    body = client.post(ALIGNMENTS, files={"file": ("a.wav", file)}, data={"text": "you"}).json()
    assert (body["duration"], body["words"][0]["start"]) == (1.0, None)


def test_limits_apply(client_with: Callable[..., TestClient], audio: Path) -> None:
    form: dict[str, Any] = {
        "files": {"file": ("short.flac", (audio / "short.flac").read_bytes())},
        "data": {"text": "kettle"},
    }
    assert error(client_with(max_upload_bytes=1000).post(ALIGNMENTS, **form), 413)["code"] == "file_too_large"
    assert error(client_with(max_audio_seconds=1).post(ALIGNMENTS, **form), 413)["code"] == "audio_too_long"
    full = client_with(max_requests=1)
    with full.app_state["transcriber"].admission.admit():
        assert int(full.post(ALIGNMENTS, **form).headers["retry-after"]) > 0
    assert full.post(ALIGNMENTS, **form).status_code == 200


@pytest.mark.usefixtures("always_computing")
def test_a_missed_deadline_is_a_504(post: Post) -> None:
    assert error(post(clip="long", timeout="0.1"), 504)["code"] == "timeout"


@pytest.mark.usefixtures("always_computing")
def test_a_slow_response_begins_with_spaces(post: Post) -> None:
    response = post(headers={"x-stainless-read-timeout": "0.3"})
    assert response.text.startswith(" ")
    assert response.json()["task"] == "align"


@pytest.mark.usefixtures("always_computing")
def test_a_retry_joins_the_work_in_progress(post: Post) -> None:
    first = post(headers={"x-stainless-retry-count": "0"})
    assert post(headers={"x-stainless-retry-count": "1"}).json() == first.json()
