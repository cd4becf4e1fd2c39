from __future__ import annotations

import base64
import gzip
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from whisper_server.api.requests import json_audio

ENDPOINTS = ["/recognise", "/v1/audio/transcriptions"]


@pytest.fixture(scope="module")
def short(audio: Path) -> bytes:
    return (audio / "short.flac").read_bytes()


@pytest.fixture(scope="module")
def text(texts: dict[str, str]) -> str:
    return texts["short"].split()[0]


@pytest.mark.parametrize("path", ["/recognise", "/v1/audio/transcriptions", "/v1/jobs"])
def test_an_upload_that_cannot_be_stored_is_a_507(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Up to one megabyte is kept in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    response = client.post(path, files={"file": ("a.wav", bytes(2_000_000))})
    assert response.status_code == 507
    assert "the server cannot store the upload: No such file or directory; try again later" in response.text
    assert int(response.headers["retry-after"]) > 0
    assert client.post(path, files={"file": ("a.wav", b"no sound")}).status_code in (202, 400)


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "content_type",
    ["audio/flac", "application/octet-stream", "application/x-www-form-urlencoded", "Video/MP4; x=y", None],
)
def test_a_body_without_a_form_is_the_audio(
    client: TestClient, short: bytes, text: str, path: str, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = client.post(path, content=short, headers=headers)
    assert response.status_code == 200 and text in response.text


def test_the_options_of_a_raw_body_are_in_the_query(client: TestClient, short: bytes) -> None:
    response = client.post("/v1/audio/transcriptions?response_format=srt&language=en-US", content=short)
    assert response.text.startswith("1\n00:00:00")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_an_empty_body_has_no_file(client: TestClient, path: str) -> None:
    response = client.post(path, content=b"", headers={"content-type": "audio/wav"})
    assert (response.status_code, "No file provided" in response.text) == (400, True)


def test_a_raw_body_has_the_limit_of_uploads(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(max_upload_bytes=1000)
    assert client.post("/recognise", content=short).status_code == 413
    assert client.post("/recognise", content=iter([short])).status_code == 413


def test_a_part_without_a_file_name_is_a_file(client: TestClient, short: bytes, text: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: audio/flac\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for path in ("/recognise", "/v1/audio/transcriptions"):
        response = client.post(path, content=part + short + b"\r\n--x--\r\n", headers=headers)
        assert response.status_code == 200 and text in response.text


def test_a_form_that_is_not_multipart_has_no_file(client: TestClient) -> None:
    assert client.post("/recognise", data={"language": "en"}).json() == {"error": "No file provided"}
    many = client.post("/recognise", data={f"a{i}": "1" for i in range(300)})
    assert many.json() == {"error": "the form has more than 200 fields"}


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("gzip", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
    ],
)
def test_a_compressed_body_is_decompressed(
    client: TestClient, short: bytes, text: str, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = {"content-encoding": encoding, "content-type": "audio/flac"}
    response = client.post("/v1/audio/transcriptions", content=compress(short), headers=headers)
    assert response.status_code == 200 and text in response.text


def test_a_compressed_form_is_decompressed(client: TestClient, short: bytes, text: str) -> None:
    form = client.build_request("POST", "/recognise", files={"file": ("a.flac", short)})
    headers = {"content-encoding": "gzip", "content-type": form.headers["content-type"]}
    response = client.post("/recognise", content=gzip.compress(form.read()), headers=headers)
    assert response.status_code == 200 and text in response.text


def test_the_limit_counts_what_is_decompressed(client_with: Callable[..., TestClient]) -> None:
    client = client_with(max_upload_bytes=10_000_000)
    bomb = gzip.compress(bytes(10_000_001))
    assert len(bomb) < 20_000
    response = client.post("/recognise", content=bomb, headers={"content-encoding": "gzip"})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (b"no gzip", "gzip", 400, "is not compressed as its Content-Encoding says"),
        (gzip.compress(bytes(100_000))[:-20], "gzip", 400, "ends too early"),
        (gzip.compress(b"audio") + b"rest", "gzip", 400, "is not compressed as its Content-Encoding says"),
        (b"", "gzip", 400, "ends too early"),
        (b"x", "br", 415, "'br' is not supported; send gzip, deflate, or none"),
        (b"x", "gzip, br", 415, "is not supported"),
    ],
)
def test_a_wrong_encoding_is_refused(client: TestClient, body: bytes, encoding: str, status: int, message: str) -> None:
    response = client.post("/v1/audio/transcriptions", content=body, headers={"content-encoding": encoding})
    assert (response.status_code, message in response.text) == (status, True)


def test_the_audio_can_be_in_json(client: TestClient, short: bytes, text: str) -> None:
    data = base64.b64encode(short).decode()
    for audio in ({"data": data, "format": "flac"}, {"data": f"data:audio/flac;base64,{data}"}):
        body = {"model": "whisper-1", "input_audio": audio, "language": None, "response_format": "verbose_json"}
        response = client.post("/v1/audio/transcriptions", json=body)
        assert response.status_code == 200 and text in response.json()["text"]
        assert response.json()["task"] == "transcribe"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "No file provided"),
        ({"input_audio": "x"}, "is not an object with the audio as base64"),
        ({"input_audio": {"data": 1}}, "is not an object with the audio as base64"),
        ({"input_audio": {"data": "ä"}}, "is not base64"),
        ({"input_audio": {"data": "aGFsbG8="}}, "is not audio"),
        ({"input_audio": {"data": ""}}, "is empty"),
        ({"input_audio": {"data": "aGFsbG8="}, "language": ["x"]}, "language"),
        (["input_audio"], "is not a JSON object"),
    ],
)
def test_wrong_json_is_refused(client: TestClient, body: Any, message: str) -> None:
    response = client.post(
        "/v1/audio/transcriptions", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (response.status_code, message in response.text) == (400, True)


def test_a_body_that_is_no_json_is_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert client.post("/v1/audio/transcriptions", content=b"{", headers=headers).status_code == 400
    too_large = bytes(json_audio.MAX_BYTES + 1)
    assert client.post("/v1/audio/transcriptions", content=too_large, headers=headers).status_code == 413
