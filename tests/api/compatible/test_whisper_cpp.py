"""Requests of whisper.cpp's clients, as they send them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from whisper_server.api.compatible.whisper_cpp_request import parse_inference
from whisper_server.core.errors import BadOption


@pytest.fixture(scope="module")
def short(audio: Path) -> bytes:
    return (audio / "short.flac").read_bytes()


@pytest.fixture(scope="module")
def text(texts: dict[str, str]) -> str:
    return texts["short"].split()[0]


def infer(client: TestClient, short: bytes, **fields: str) -> Any:
    return client.post("/inference", files={"file": ("a.flac", short)}, data=fields)


def test_the_request_of_the_readme_is_answered(client: TestClient, short: bytes, text: str) -> None:
    response = infer(client, short, temperature="0.0", temperature_inc="0.2", response_format="json")
    assert list(response.json()) == ["text"]
    assert text in response.json()["text"] and response.json()["text"].endswith("\n")


@pytest.mark.parametrize(
    ("response_format", "media_type", "start"),
    [
        ("text", "text/plain; charset=utf-8", " "),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:00,000 --> "),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n"),
    ],
)
def test_the_text_comes_in_each_format(
    client: TestClient, short: bytes, response_format: str, media_type: str, start: str
) -> None:
    response = infer(client, short, response_format=response_format)
    assert response.headers["content-type"] == media_type
    assert response.text.startswith(start)


def test_verbose_json_has_whisper_cpps_segments(client: TestClient, short: bytes) -> None:
    body = infer(client, short, response_format="verbose_json", language="en", translate="false").json()
    assert list(body) == [
        *("task", "language", "duration", "text", "segments"),
        *("detected_language", "detected_language_probability"),
    ]
    assert (body["task"], body["language"]) == ("transcribe", "english")
    segment = body["segments"][0]
    assert list(segment) == [
        *("id", "text", "start", "end", "tokens", "words", "temperature", "avg_logprob", "no_speech_prob"),
    ]
    assert list(segment["words"][0]) == ["word", "start", "end", "t_dtw", "probability"]
    without = infer(client, short, response_format="verbose_json", no_timestamps="true").json()
    assert "words" not in without["segments"][0]


def test_cues_have_a_maximum_length(client: TestClient, short: bytes) -> None:
    cues = infer(client, short, response_format="srt", max_len="12").text.strip().split("\n\n")
    assert len(cues) > 1
    assert all(len(cue.split("\n", 2)[2]) <= 12 for cue in cues)


@pytest.mark.parametrize(
    ("fields", "option", "value"),
    [
        ({}, "temperature", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ({"temperature": "0.5", "temperature_inc": "0.3"}, "temperature", [0.5, 0.8]),
        ({"temperature_inc": "0"}, "temperature", [0.0]),
        ({"translate": "true"}, "task", "translate"),
        ({"language": "de"}, "language", "de"),
        ({"prompt": "Tea."}, "initial_prompt", "Tea."),
        ({"logprob_thold": "-0.5"}, "log_prob_threshold", -0.5),
        ({"no_speech_thold": "0.4"}, "no_speech_threshold", 0.4),
        ({"no_timestamps": "1"}, "without_timestamps", True),
        ({"beam_size": "5"}, "beam_size", 5),
        ({"max_context": "0"}, "condition_on_previous_text", False),
        ({"offset_t": "1500"}, "clip_timestamps", [1.5]),
        ({"offset_t": "1500", "duration": "500"}, "clip_timestamps", [1.5, 2.0]),
        ({"duration": "500"}, "clip_timestamps", [0.0, 0.5]),
        ({"vad": "true"}, "vad_filter", True),
        (
            {"vad_threshold": "0.4", "vad_speech_pad_ms": "50"},
            "vad_parameters",
            {"threshold": 0.4, "speech_pad_ms": 50},
        ),
    ],
)
def test_fields_mean_what_they_mean_there(fields: dict[str, str], option: str, value: object) -> None:
    assert parse_inference(fields).decoding[option] == value


@pytest.mark.parametrize("fields", [{"language": "auto"}, {"language": "de", "detect_language": "true"}])
def test_a_language_that_is_to_be_detected_is_not_set(fields: dict[str, str]) -> None:
    assert "language" not in parse_inference(fields).decoding


@pytest.mark.parametrize(
    "fields", [{"temperature_inc": "0.001"}, {"temperature": "2"}, {"offset_t": "-1"}, {"language": "xx"}]
)
def test_values_out_of_range_are_refused(client: TestClient, short: bytes, fields: dict[str, str]) -> None:
    response = infer(client, short, **fields)
    assert response.status_code == 400
    assert list(response.json()) == ["error"] and response.json()["error"].startswith(next(iter(fields)))
    with pytest.raises(BadOption):
        parse_inference(fields)


def test_a_missing_file_is_an_error(client: TestClient) -> None:
    assert client.post("/inference", data={"x": "1"}).json() == {"error": "No file provided"}
    assert client.post("/inference", files={"file": b"no audio"}).status_code == 400


@pytest.mark.parametrize("name", ["tiny.en", "models/ggml-tiny.en.bin", "C:\\models\\ggml-tiny.en-q5_1.bin"])
def test_a_model_is_loaded_by_the_name_of_its_file(client_with: Callable[..., TestClient], name: str) -> None:
    response = client_with().post("/load", files={"model": (None, name)})
    assert (response.status_code, response.text) == (200, "Load was successful!")


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({}, 400, "no 'model' field in the request"),
        ({"model": ""}, 400, "no 'model' field in the request"),
        ({"model": "/etc/passwd"}, 404, "model '/etc/passwd' is not on this server"),
        ({"model": "../ggml-nosuch.bin"}, 404, "model 'nosuch' is not on this server"),
    ],
)
def test_other_models_are_refused(client: TestClient, fields: dict[str, str], status: int, error: str) -> None:
    response = client.post("/load", data=fields)
    assert response.status_code == status and response.json()["error"].startswith(error)


def test_loading_needs_an_admin_key(client_with: Callable[..., TestClient]) -> None:
    assert client_with(api_key=("a-secret-of-the-tests",)).post("/load").status_code == 401
