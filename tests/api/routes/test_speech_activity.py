from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from faster_whisper import decode_audio
from httpx2 import Response
from numpy.typing import NDArray
from recorder import pcm16, wav
from starlette.testclient import TestClient

from whisper_server.api.openapi.schemas import SCHEMAS

SPEECH_ACTIVITY = "/v1/audio/speech-activity"
RATE = 16_000


@pytest.fixture(scope="module")
def speech(audio: Path) -> NDArray[np.float32]:
    """Three seconds of speech between two and four seconds of silence."""
    clip: NDArray[np.float32] = decode_audio(str(audio / "short.flac"))[: 3 * RATE]
    return np.pad(clip, (2 * RATE, 4 * RATE))


def post(client: TestClient, samples: NDArray[np.float32], **fields: str) -> Response:
    return client.post(SPEECH_ACTIVITY, files={"file": ("a.wav", wav(pcm16(samples)))}, data=fields)


def segments(response: Response) -> list[tuple[float, float]]:
    assert response.status_code == 200, response.text
    return [(segment["start"], segment["end"]) for segment in response.json()["segments"]]


def test_speech_has_a_start_and_an_end(client: TestClient, speech: NDArray[np.float32]) -> None:
    response = post(client, speech)
    jsonschema_rs.validate({**SCHEMAS["SpeechActivity"]}, response.json())
    assert response.json()["duration"] == 9.0
    ((start, end),) = segments(response)
    assert start == pytest.approx(1.6, abs=0.2)
    assert end == pytest.approx(5.4, abs=0.3)


def test_padding_is_added_to_segments(client: TestClient, speech: NDArray[np.float32]) -> None:
    ((start, end),) = segments(post(client, speech, speech_pad_ms="0"))
    ((earlier, later),) = segments(post(client, speech, speech_pad_ms="500"))
    assert start - earlier == pytest.approx(0.5, abs=0.01)
    assert later - end == pytest.approx(0.5, abs=0.01)


def test_a_pause_separates_segments_if_it_is_long_enough(client: TestClient, speech: NDArray[np.float32]) -> None:
    twice = np.concatenate([speech, speech])
    assert len(segments(post(client, twice))) == 2
    assert len(segments(post(client, twice, min_silence_duration_ms="8000"))) == 1


def test_short_speech_can_be_left_out(client: TestClient, speech: NDArray[np.float32]) -> None:
    assert segments(post(client, speech, min_speech_duration_ms="20000")) == []


@pytest.mark.parametrize("seconds", [0, 0.01, 3])
def test_there_is_no_speech_in_silence(client: TestClient, seconds: float) -> None:
    response = post(client, np.zeros(round(seconds * RATE), np.float32))
    assert response.json() == {"duration": seconds, "segments": []}


@pytest.mark.full
def test_speech_of_minutes_is_not_divided(client: TestClient, audio: Path) -> None:
    """The file is searched a minute at a time."""
    long = decode_audio(str(audio / "long.flac"))
    whole = np.concatenate([long, long, long])
    ((start, end),) = segments(post(client, whole))
    assert start == pytest.approx(0, abs=0.1)
    assert end == pytest.approx(len(whole) / RATE, abs=0.2)
    parts = segments(post(client, whole, max_speech_duration_s="10"))
    assert all(end - start <= 10.1 for start, end in parts)


def test_no_model_is_needed(client_with: Callable[..., TestClient], speech: NDArray[np.float32], audio: Path) -> None:
    client = client_with()
    assert client.post("/unload", json={"model_name": "tiny.en"}).status_code in (200, 202)
    assert segments(post(client, speech))
    assert client.get("/v1/models").json()["data"][0]["state"] == "released"


@pytest.mark.parametrize("value", ["2", "x", "nan"])
def test_a_wrong_value_is_named(client: TestClient, value: str) -> None:
    response = post(client, np.zeros(RATE, np.float32), threshold=value)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "threshold"


@pytest.mark.parametrize("fields", [{"neg_threshold": "1"}, {"threshold": "0"}, {"speech_pad_ms": "3600000"}])
def test_extreme_values_are_no_errors(client: TestClient, speech: NDArray[np.float32], fields: dict[str, str]) -> None:
    assert all(0 <= start <= end <= 9 for start, end in segments(post(client, speech, **fields)))
    assert post(client, speech, max_speech_duration_s="1", **fields).status_code == 200


def error_code(response: Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return response.json()["error"]["code"]


def test_a_file_with_audio_is_required(client: TestClient) -> None:
    assert error_code(client.post(SPEECH_ACTIVITY), 400) == "missing_required_parameter"
    assert error_code(client.post(SPEECH_ACTIVITY, files={"file": ("a.wav", b"no audio")}), 400) == "invalid_audio"


def test_limits_apply(client_with: Callable[..., TestClient], speech: NDArray[np.float32]) -> None:
    assert error_code(post(client_with(max_upload_bytes=1000), speech), 413) == "file_too_large"
    assert error_code(post(client_with(max_audio_seconds=1), speech), 413) == "audio_too_long"
    full = client_with(max_requests=1)
    with full.app_state["transcriber"].admission.admit():
        assert error_code(post(full, speech), 503) == "overloaded"
    assert post(full, speech).status_code == 200


def test_a_missed_deadline_is_a_504(client: TestClient) -> None:
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, 600 * RATE).astype(np.float32)
    assert error_code(post(client, noise, timeout="0.1"), 504) == "timeout"


def test_get_is_not_allowed(client: TestClient) -> None:
    assert client.get(SPEECH_ACTIVITY).status_code == 405
