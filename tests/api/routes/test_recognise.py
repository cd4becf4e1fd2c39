from __future__ import annotations

import io
import os
import struct
import threading
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import decode_audio
from inference.containers import RECIPES, encode, without_tail
from starlette.testclient import TestClient

TEXT = "The kettle is on the stove"


def wav(samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.repeat(samples.astype("<i2"), channels).tobytes())
    return file.getvalue()


def float_wav(samples: np.ndarray) -> bytes:
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + (
        b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip


@pytest.fixture
def short(audio: Path) -> bytes:
    return (audio / "short.flac").read_bytes()


def test_full_detail_is_the_default(client: TestClient, short: bytes) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    transcription = response.json()["transcription"]
    assert list(transcription) == ["text", "segments", "language"]
    assert TEXT in transcription["text"]
    assert transcription["language"] == "en"
    segment = transcription["segments"][0]
    assert segment["id"] == 0
    assert "words" not in segment
    assert list(response.json()) == ["transcription"]


def test_word_timestamps_add_words(client: TestClient, short: bytes) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data={"word_timestamps": "true"})
    words = response.json()["transcription"]["segments"][0]["words"]
    assert list(words[0]) == ["word", "start", "end", "probability"]
    assert "".join(word["word"] for word in words) == response.json()["transcription"]["text"]


@pytest.mark.parametrize("request_parts", [{}, {"data": {"x": "1"}}, {"data": {"file": "text"}}, {"json": {"x": 1}}])
def test_a_missing_file_is_the_reference_projects_error(client: TestClient, request_parts: dict[str, object]) -> None:
    response = client.post("/recognise", **request_parts)  # type: ignore[arg-type]
    assert (response.status_code, response.json()) == (400, {"error": "No file provided"})


def test_a_file_in_another_field_is_ignored(client: TestClient, short: bytes) -> None:
    response = client.post("/recognise", files={"audio": ("a.flac", short)})
    assert (response.status_code, response.json()) == (400, {"error": "No file provided"})


def test_an_empty_file_picker_is_the_reference_projects_error(client: TestClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    response = client.post("/recognise", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (response.status_code, response.json()) == (400, {"error": "No file selected"})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--x\r\ngarbage", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"abc", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="prefix"\r\n\r\n' + b"a" * 70_000 + b"\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 300 + b"--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
    ],
    ids=["garbage", "nameless part", "no boundary", "long field", "many fields"],
)
def test_a_broken_form_is_a_400(client: TestClient, body: bytes, content_type: str) -> None:
    response = client.post("/recognise", content=body, headers={"content-type": content_type})
    assert response.status_code == 400
    assert response.json()["error"]


def test_the_form_takes_precedence_over_the_query(client: TestClient, short: bytes) -> None:
    files = {"file": ("a.flac", short)}
    assert "words" in client.post("/recognise?word_timestamps=1", files=files).text
    response = client.post("/recognise?word_timestamps=1", files=files, data={"word_timestamps": "0"})
    assert "words" not in response.text


def test_unknown_fields_are_ignored(client: TestClient, short: bytes) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data={"fp16": "False", "verbose": "x"})
    assert response.status_code == 200


def test_an_invalid_value_is_refused_with_field_value_and_range(client: TestClient, short: bytes) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data={"beam_size": "99"})
    assert response.status_code == 400
    assert response.json() == {
        "error": "beam_size: '99' is not allowed; expected a whole number from 1 to 16, or none"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("language", "fr"),
        ("language", "Spanish"),
        ("suppress_tokens", "51864"),
        ("hotwords", "kettle " * 280),
        ("prefix", "kettle " * 280),
        ("max_new_tokens", "224"),
    ],
)
def test_an_option_that_the_model_does_not_support_is_a_400(
    client: TestClient, short: bytes, field: str, value: str
) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data={field: value})
    assert response.status_code == 400
    assert response.json()["error"].startswith(field + ": ")


@pytest.mark.parametrize(
    "options",
    [
        {"language": "English", "task": "transcribe", "temperature": "0,0.5"},
        {"beam_size": "4", "patience": "1.5", "length_penalty": "0.8"},
        {"temperature": "0.4", "best_of": "3"},
        {"initial_prompt": "A kettle.", "condition_on_previous_text": "false", "max_new_tokens": "60"},
        {"prefix": "The kettle", "hotwords": "stove, tea"},
        {"suppress_tokens": "", "suppress_blank": "false"},
        {"suppress_tokens": "-1,50256", "without_timestamps": "true", "max_new_tokens": "30", "temperature": "0"},
        {"compression_ratio_threshold": "None", "logprob_threshold": "none", "no_speech_threshold": "null"},
        {"word_timestamps": "1", "prepend_punctuations": "", "append_punctuations": ".", "max_initial_timestamp": "2"},
        {"word_timestamps": "1", "hallucination_silence_threshold": "2", "clip_timestamps": "0,3"},
        {"vad_filter": "true", "vad_parameters": '{"threshold": 0.4, "speech_pad_ms": 200}'},
        {"repetition_penalty": "1.1", "no_repeat_ngram_size": "3", "prompt_reset_on_temperature": "0.5"},
        {"multilingual": "true", "language_detection_threshold": "0.6", "language_detection_segments": "2"},
    ],
)
def test_every_option_works(client: TestClient, short: bytes, options: dict[str, str]) -> None:
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data=options)
    assert response.status_code == 200
    assert "stove" in response.json()["transcription"]["text"].lower()


@pytest.mark.parametrize(
    ("response_format", "content_type", "start"),
    [
        ("text", "text/plain; charset=utf-8", "The kettle"),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:0"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:0"),
        ("tsv", "text/tab-separated-values; charset=utf-8", "start\tend\ttext\n"),
    ],
)
def test_text_formats_have_their_content_type(
    client: TestClient, short: bytes, response_format: str, content_type: str, start: str
) -> None:
    response = client.post(
        "/recognise", files={"file": ("a.flac", short)}, data={"response_format": response_format}
    )  # fmt: skip
    assert response.headers["content-type"] == content_type
    assert response.text.startswith(start)


def test_words_per_line_imply_word_timestamps(client: TestClient, short: bytes) -> None:
    options = {"response_format": "srt", "max_words_per_line": "3"}
    response = client.post("/recognise", files={"file": ("a.flac", short)}, data=options)
    assert response.text.splitlines()[2] == "The kettle is"


def test_detail_is_an_option(client: TestClient, short: bytes, client_with: Callable[..., TestClient]) -> None:
    files = {"file": ("a.flac", short)}
    brief = client.post("/recognise", files=files, data={"detail": "false"}).json()["transcription"]
    assert list(brief) == ["text", "language"]
    brief_by_default = client_with(detail=False)
    assert list(brief_by_default.post("/recognise", files=files).json()["transcription"]) == ["text", "language"]
    full = brief_by_default.post("/recognise?detail=true", files=files).json()["transcription"]
    assert list(full) == ["text", "segments", "language"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the file is empty"),
        (b"This is no audio.\n" * 100, "not audio"),
        (bytes(range(256)) * 40, "not audio"),
        (wav(np.zeros(16_000))[:20], "not audio"),
    ],
    ids=["empty", "text", "bytes", "half a header"],
)
def test_a_file_that_is_not_audio_is_a_400(client: TestClient, body: bytes, error: str) -> None:
    response = client.post("/recognise", files={"file": ("a.wav", body)})
    assert response.status_code == 400
    assert error in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        wav(np.zeros(0)),
        wav(np.zeros(160)),
        wav(np.zeros(16_000)),
        wav(np.zeros(192_000), 192_000, 8),
        float_wav(np.full(16_000, np.nan)),
        float_wav(np.full(16_000, np.inf)),
    ],
    ids=["no samples", "0.01 s", "silence", "8 channels at 192 kHz", "NaN", "infinity"],
)
def test_unusual_audio_is_accepted(client: TestClient, body: bytes) -> None:
    response = client.post("/recognise", files={"file": ("a.wav", body)})
    assert response.status_code == 200
    assert response.json()["transcription"]["language"] == "en"


def test_no_samples_give_no_text(client: TestClient) -> None:
    response = client.post("/recognise", files={"file": ("a.wav", wav(np.zeros(0)))})
    assert response.json() == {"transcription": {"text": "", "segments": [], "language": "en"}}


def test_silence_with_vad_gives_no_text(client: TestClient) -> None:
    files = {"file": ("a.wav", wav(np.zeros(80_000)))}
    assert client.post("/recognise?vad_filter=true", files=files).json()["transcription"]["segments"] == []


def test_audio_over_the_limit_is_a_413(client_with: Callable[..., TestClient], short: bytes) -> None:
    response = client_with(max_audio_seconds=2.0).post("/recognise", files={"file": ("a.flac", short)})
    assert response.status_code == 413
    assert "longer than 2 seconds" in response.json()["error"]


def test_an_upload_over_the_limit_is_a_413(client_with: Callable[..., TestClient], short: bytes) -> None:
    client = client_with(max_upload_bytes=10_000)
    declared = client.post("/recognise", files={"file": ("a.flac", short)})
    request = client.build_request("POST", "/recognise", files={"file": ("a.flac", short)})
    body = request.read()
    in_chunks = client.post(
        "/recognise",
        content=(body[i : i + 4096] for i in range(0, len(body), 4096)),
        headers={"content-type": request.headers["content-type"]},
    )
    for response in (declared, in_chunks):
        assert response.status_code == 413
        assert "10000 bytes" in response.json()["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/recognise", 405), ("GET", "/nowhere", 404)])
def test_unknown_paths_have_errors_of_the_same_form(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_concurrent_files_of_the_same_name_are_kept_apart(client: TestClient, audio: Path) -> None:
    """The reference project wrote uploads to one directory under the client's name."""
    responses: dict[str, str] = {}

    def send(clip: str) -> None:
        files = {"file": ("same.flac", (audio / clip).read_bytes())}
        responses[clip] = client.post("/recognise", files=files).json()["transcription"]["text"]

    threads = [threading.Thread(target=send, args=(clip,)) for clip in ("short.flac", "sentences.flac")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "stove" in responses["short.flac"]
    assert "carpenter" in responses["sentences.flac"]


def test_requests_leave_no_files_open(client_with: Callable[..., TestClient], audio: Path) -> None:
    client = client_with(max_audio_seconds=20.0, jobs=False)  # maintenance of jobs would open the database
    sentences = (audio / "sentences.flac").read_bytes()
    large = wav(np.zeros(16_000 * 60))  # over a megabyte, so it is spooled to a file, and too long
    bodies = [sentences, large, b"no audio"]
    for body in bodies:
        client.post("/recognise", files={"file": ("a", body)}, data={"detail": "false"})
    before = len(os.listdir("/proc/self/fd"))
    for body in bodies * 2:
        client.post("/recognise", files={"file": ("a", body)})
        client.post("/recognise", files={"file": ("a", body)}, data={"beam_size": "x"})
    assert len(os.listdir("/proc/self/fd")) <= before


# The decoder's own test has all of them.
COMMON = {"wav", "flac", "mp3", "m4a", "opus", "webm", "aac", "mkv"}
CONTAINERS = [pytest.param(name, marks=() if name in COMMON else pytest.mark.full) for name in RECIPES]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_transcribed_whole_and_truncated(client: TestClient, audio: Path, name: str) -> None:
    speech = decode_audio(str(audio / "short.flac"))
    for file in (encode(speech, RECIPES[name]), without_tail(np.tile(speech, 2), RECIPES[name])):
        data = {"detail": "false", "encoder_window": "adaptive"}
        response = client.post("/recognise", files={"file": ("a", file)}, data=data)
        text = response.json()["transcription"]["text"]
        assert "stove" in text, text
