"""Requests of whisper-asr-webservice's clients, as they send them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import HOST
from faster_whisper import decode_audio
from starlette.testclient import TestClient

from benchmarks.audio_files import to_pcm16
from whisper_server.app import create_app
from whisper_server.core.settings import Settings


@pytest.fixture(scope="module")
def short(audio: Path) -> bytes:
    return (audio / "short.flac").read_bytes()


@pytest.fixture(scope="module")
def raw(audio: Path) -> bytes:
    """What Bazarr's ffmpeg writes: `-f s16le -acodec pcm_s16le -ac 1 -ar 16000`."""
    return to_pcm16(decode_audio(str(audio / "short.flac"))).tobytes()


@pytest.fixture(scope="module")
def text(texts: dict[str, str]) -> str:
    return texts["short"].split()[0]


@pytest.fixture(scope="module")
def multilingual() -> Iterator[TestClient]:
    settings = Settings(model="base", device="cpu", offline=True, jobs=False, allow_host=(HOST,))
    with TestClient(create_app(settings)) as client:
        yield client


def test_bazarr_gets_subtitles(client: TestClient, raw: bytes, text: str) -> None:
    params = {"task": "transcribe", "language": "en", "output": "srt", "encode": "false"}
    response = client.post("/asr", params=params, files={"audio_file": raw})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="upload.srt"'
    assert response.headers["asr-engine"] == "faster_whisper"
    assert response.text.startswith("1\n00:00:00,000 --> ") and text in response.text


def test_bazarr_detects_the_language(client: TestClient, raw: bytes) -> None:
    response = client.post("/detect-language", params={"encode": "false"}, files={"audio_file": raw})
    assert response.json() == {"detected_language": "english", "language_code": "en", "confidence": 1.0}


def test_speakr_gets_segments(client: TestClient, short: bytes, text: str) -> None:
    params = {"encode": "true", "task": "transcribe", "output": "json", "diarize": "true", "min_speakers": "2"}
    response = client.post("/asr", params=params, files={"audio_file": ("meeting 1.flac", short, "audio/flac")})
    assert response.headers["content-disposition"] == 'attachment; filename="meeting%201.flac.json"'
    body = response.json()
    assert list(body) == ["text", "segments", "language"] and text in body["text"]
    assert body["segments"][0]["start"] == 0.0 and text in body["segments"][0]["text"]


@pytest.mark.parametrize(
    ("output", "start"),
    [("", "The"), ("txt", "The"), ("VTT", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n"), ("srt", "1\n")],
)
def test_each_output_is_plain_text(client: TestClient, short: bytes, output: str, start: str) -> None:
    response = client.post(f"/asr?output={output}", files={"audio_file": ("a.flac", short)})
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.lower().startswith(start.lower())


def test_the_prompt_and_words_are_honoured(client: TestClient, short: bytes) -> None:
    query = "output=json&word_timestamps=true&initial_prompt=Kettle.&vad_filter=true&encoder_window=adaptive"
    body = client.post(f"/asr?{query}", files={"audio_file": ("a.flac", short)}).json()
    assert list(body["segments"][0]["words"][0]) == ["word", "start", "end", "probability"]


@pytest.mark.parametrize("path", ["/asr", "/detect-language"])
@pytest.mark.parametrize(
    ("query", "parts", "detail"),
    [
        ("", {}, "No file provided"),
        ("", {"files": {"audio": b"x"}}, "No file provided"),
        ("", {"files": {"audio_file": b"no audio"}}, "the file is not audio"),
        ("encode=false", {"files": {"audio_file": b""}}, "the file is empty"),
        ("encode=perhaps", {"files": {"audio_file": b"x"}}, "encode: 'perhaps' is not allowed"),
    ],
)
def test_errors_are_details(client: TestClient, path: str, query: str, parts: dict[str, Any], detail: str) -> None:
    response = client.post(f"{path}?{query}", **parts)
    assert response.status_code == 400
    assert list(response.json()) == ["detail"] and response.json()["detail"].startswith(detail)


@pytest.mark.parametrize("query", ["output=docx", "language=xx", "task=sing", "vad_filter=2"])
def test_wrong_parameters_are_refused(client: TestClient, short: bytes, query: str) -> None:
    response = client.post(f"/asr?{query}", files={"audio_file": ("a.flac", short)})
    assert response.status_code == 400 and query.partition("=")[0] in response.json()["detail"]


def test_raw_samples_give_the_text_of_the_file(client: httpx2.Client, raw: bytes, short: bytes) -> None:
    of_file = client.post("/asr", files={"audio_file": ("a.flac", short)}).text
    assert client.post("/asr?encode=false", files={"audio_file": raw}).text == of_file
    assert client.post("/asr?encode=false", content=raw).text == of_file


def test_half_a_sample_at_the_end_is_ignored(client: httpx2.Client, raw: bytes) -> None:
    assert client.post("/asr?encode=false", content=raw + b"\0").status_code == 200


@pytest.mark.parametrize(("clip", "code", "name"), [("german", "de", "german"), ("spanish", "es", "spanish")])
def test_the_language_is_detected(multilingual: TestClient, audio: Path, clip: str, code: str, name: str) -> None:
    response = multilingual.post("/detect-language", files={"audio_file": (audio / f"{clip}.flac").read_bytes()})
    body = response.json()
    assert (body["detected_language"], body["language_code"]) == (name, code)
    assert 0.5 < body["confidence"] <= 1


def test_silence_has_a_language_too(multilingual: TestClient) -> None:
    silence = np.zeros(1600, "<i2").tobytes()
    body = multilingual.post("/detect-language?encode=false", files={"audio_file": silence}).json()
    assert 0 <= body["confidence"] <= 1
