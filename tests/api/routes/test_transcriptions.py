"""OpenAI's audio contract, row by row, as clients of any language send it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx2 import RemoteProtocolError, Response
from starlette.testclient import TestClient
from starlette.types import Message

from whisper_server.api.single_flight import SingleFlight
from whisper_server.app import create_app
from whisper_server.core.settings import Settings
from whisper_server.engine.admission import Admission
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.models.manager import ModelManager

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)
WORDS = {"timestamp_granularities[]": "word", "response_format": "verbose_json"}
SEGMENT = {
    "id": int,
    "seek": int,
    "start": float,
    "end": float,
    "text": str,
    "tokens": list,
    "temperature": float,
    "avg_logprob": float,
    "compression_ratio": float,
    "no_speech_prob": float,
}

Post = Callable[..., Response]


@pytest.fixture
def post(client: TestClient, audio: Path) -> Post:
    def post(
        path: str = TRANSCRIPTIONS, clip: str = "short", headers: dict[str, str] | None = None, **data: Any
    ) -> Response:
        fields = data.pop("fields", {}) | data
        files = {"file": (f"{clip}.flac", (audio / f"{clip}.flac").read_bytes())}
        return client.post(path, files=files, data=fields, headers=headers)

    return post


def events(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = [frame for frame in response.text.split("\n\n") if frame.strip(": ")]  # comments keep the stream alive
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def error(response: Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    failure: dict[str, Any] = response.json()["error"]
    assert list(failure) == ["message", "type", "param", "code"]
    assert failure["message"]
    return failure


ACCEPTED = {
    "file and nothing else": {},
    **{f"model {name}": {"model": name} for name in OPENAI_NAMES},
    "model by its name": {"model": "tiny.en"},
    "model by its repository": {"model": "Systran/faster-whisper-tiny.en"},
    "language": {"language": "en"},
    "languages[]": {"languages[]": ["en", "de"]},
    "languages, one": {"languages": "en"},
    "prompt": {"prompt": "A kettle."},
    "keywords[]": {"keywords[]": ["kettle", "stove"]},
    "keywords with commas": {"keywords": "kettle,stove"},
    "keywords as JSON": {"keywords": '["kettle", "stove"]'},
    "response_format json": {"response_format": "json"},
    "temperature 0": {"temperature": "0"},
    "temperature": {"temperature": "0.2"},
    "timestamp_granularities[] segment": {"timestamp_granularities[]": "segment"},
    "stream false": {"stream": "false"},
    "chunking_strategy auto": {"chunking_strategy": "auto"},
    "chunking_strategy in brackets": {
        "chunking_strategy[type]": "server_vad",
        "chunking_strategy[prefix_padding_ms]": "300",
        "chunking_strategy[silence_duration_ms]": "500",
        "chunking_strategy[threshold]": "0.5",
    },
    "chunking_strategy as JSON": {"chunking_strategy": '{"type": "server_vad", "threshold": 0.5}'},
    "extensions": {"beam_size": "2", "hotwords": "kettle", "vad_filter": "true", "encoder_window": "adaptive"},
    "mode": {"mode": "batched"},
    "empty values": {"language": "", "prompt": "", "temperature": "", "stream": "", "languages[]": ""},
    "unknown fields": {"user": "me", "metadata[a]": "b"},
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_field_of_openais_api_is_accepted(post: Post, fields: dict[str, Any]) -> None:
    response = post(fields=fields)
    assert response.status_code == 200, response.text
    assert "stove" in response.json()["text"].lower()


def test_json_has_text_and_usage(post: Post) -> None:
    assert post().json() == {
        "text": "The kettle is on the stove and the tea is almost ready.",
        "usage": {"type": "duration", "seconds": pytest.approx(3.146, abs=0.01)},
        "languages": [{"code": "en"}],
    }


def test_log_probabilities_cover_the_text(post: Post) -> None:
    body = post(fields={"include[]": "logprobs"}).json()
    content = bytes(byte for token in body["logprobs"] for byte in token["bytes"])
    assert content.decode().strip() == body["text"]
    assert "".join(token["token"] for token in body["logprobs"]).strip() == body["text"]
    assert all(list(token) == ["token", "bytes", "logprob"] and token["logprob"] <= 0 for token in body["logprobs"])
    assert {token["logprob"] for token in body["logprobs"]} > {max(token["logprob"] for token in body["logprobs"])}


def test_verbose_json_has_openais_fields(post: Post) -> None:
    body = post(clip="sentences", response_format="verbose_json").json()
    assert list(body) == ["task", "language", "duration", "text", "segments", "usage"]
    assert (body["task"], body["language"]) == ("transcribe", "english")
    assert isinstance(body["duration"], float)
    assert body["text"] == "".join(segment["text"] for segment in body["segments"]).strip()
    assert body["usage"] == {"type": "duration", "seconds": body["duration"]}
    for segment in body["segments"]:
        assert {name: type(value) for name, value in segment.items()} == SEGMENT
    assert [segment["id"] for segment in body["segments"]] == list(range(len(body["segments"])))


@pytest.mark.parametrize(
    ("granularities", "present"),
    [
        ([], {"segments"}),
        (["segment"], {"segments"}),
        (["word"], {"words"}),
        (["word", "segment"], {"words", "segments"}),
    ],
)
@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_granularities_add_segments_or_words(
    post: Post, name: str, granularities: list[str], present: set[str]
) -> None:
    body = post(fields={name: granularities, "response_format": "verbose_json"}).json()
    assert {"segments", "words"} & body.keys() == present


def test_words_are_a_top_level_list(post: Post) -> None:
    body = post(fields=WORDS).json()
    assert [list(word) for word in body["words"]] == [["word", "start", "end", "probability"]] * len(body["words"])
    assert " ".join(word["word"] for word in body["words"]) == body["text"]
    assert all(isinstance(word["start"], float) and word["start"] <= word["end"] for word in body["words"])


def test_detail_false_omits_the_segments(post: Post) -> None:
    assert "segments" not in post(response_format="verbose_json", detail="false").json()


@pytest.mark.parametrize(
    ("response_format", "content_type", "start"),
    [
        ("text", "text/plain; charset=utf-8", "The kettle is"),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:00,000 --> "),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00"),
    ],
)
@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
def test_text_formats_are_plain_files(
    post: Post, path: str, response_format: str, content_type: str, start: str
) -> None:
    response = post(path, response_format=response_format)
    assert response.headers["content-type"] == content_type
    assert response.text.startswith(start)


def test_the_subtitle_layout_is_an_extension(post: Post) -> None:
    assert post(response_format="srt", max_words_per_line="3").text.splitlines()[2] == "The kettle is"


def test_a_translation_is_in_english(post: Post) -> None:
    assert list(post(TRANSLATIONS).json()) == ["text"]
    body = post(TRANSLATIONS, response_format="verbose_json", prompt="Tea.", temperature="0", model="whisper-1").json()
    assert list(body) == ["task", "language", "duration", "text", "segments"]
    assert (body["task"], body["language"]) == ("translate", "english")


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_a_stream_has_deltas_that_concatenate_to_the_text(post: Post, mode: str) -> None:
    *deltas, done = events(post(clip="long", stream="true", mode=mode))
    assert len(deltas) > 10
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "".join(event["delta"] for event in deltas) == post(clip="long", mode=mode).json()["text"]
    usage = done["usage"]
    assert usage["type"] == "tokens"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_stream_has_log_probabilities_on_request(post: Post) -> None:
    *deltas, done = events(post(fields={"stream": "true", "include[]": "logprobs"}))
    assert [token for event in deltas for token in event["logprobs"]] == done["logprobs"]
    assert done["logprobs"]
    assert all("logprobs" not in event for event in events(post(stream="true")))


def test_text_and_translations_can_be_streamed(post: Post) -> None:
    assert events(post(stream="true", response_format="text"))[-1]["text"]
    assert events(post(TRANSLATIONS, stream="true"))[-1]["languages"] == [{"code": "en"}]


REFUSED = {
    "diarized_json": ({"response_format": "diarized_json"}, "response_format"),
    "known_speaker_names[]": ({"known_speaker_names[]": ["A", "B"]}, "known_speaker_names"),
    "known_speaker_references[]": (
        {"known_speaker_references[]": "data:audio/wav;base64,AA"},
        "known_speaker_references",
    ),
    "words in json": ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
    "logprobs in verbose_json": ({"include[]": "logprobs", "response_format": "verbose_json"}, "include"),
    "streamed subtitles": ({"stream": "true", "response_format": "vtt"}, "stream"),
    "a language that the model has not": ({"language": "de"}, "language"),
    "languages that the model has not": ({"languages[]": ["de", "fr"]}, "languages"),
    "temperature above 1": ({"temperature": "2"}, "temperature"),
    "an extension out of range": ({"beam_size": "99"}, "beam_size"),
}


@pytest.mark.parametrize(("fields", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unsupported_field_is_a_400_with_its_name(post: Post, fields: dict[str, Any], param: str) -> None:
    response = post(fields=fields)
    failure = error(response, 400)
    assert (failure["type"], failure["param"], failure["code"]) == ("invalid_request_error", param, "invalid_value")
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
def test_a_missing_file_is_an_error_of_the_field_file(client: TestClient, path: str) -> None:
    for parts in ({}, {"data": {"model": "whisper-1"}}, {"data": {"file": "text"}}):
        failure = error(client.post(path, **parts), 400)  # type: ignore[arg-type]
        assert (failure["param"], failure["code"]) == ("file", "missing_required_parameter")


def test_a_file_that_is_not_audio_is_an_error_of_the_field_file(client: TestClient) -> None:
    for data in ({}, {"stream": "true"}):
        response = client.post(TRANSCRIPTIONS, files={"file": ("a.flac", b"no audio")}, data=data)
        failure = error(response, 400)
        assert (failure["param"], failure["code"]) == ("file", "invalid_audio")


def test_an_unknown_model_is_a_404_with_advice(post: Post) -> None:
    failure = error(post(model="large-v3"), 404)
    assert (failure["param"], failure["code"]) == ("model", "model_not_found")
    assert "--on-demand-models" in failure["message"] and "/reload" in failure["message"]


def test_a_broken_form_is_a_400(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data"}
    assert error(client.post(TRANSCRIPTIONS, content=b"abc", headers=headers), 400)["param"] is None


def test_an_upload_over_the_limit_is_a_413(client_with: Callable[..., TestClient], audio: Path) -> None:
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    failure = error(client_with(max_upload_bytes=1000).post(TRANSCRIPTIONS, files=files), 413)
    assert (failure["type"], failure["param"]) == ("invalid_request_error", "file")
    assert error(client_with(max_audio_seconds=1).post(TRANSCRIPTIONS, files=files), 413)["code"] == "audio_too_long"


def test_a_full_server_responds_with_retry_after(client_with: Callable[..., TestClient], audio: Path) -> None:
    client = client_with(max_requests=1)
    files = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    with client.app_state["transcriber"].admission.admit():
        response = client.post(TRANSCRIPTIONS, files=files)
    assert error(response, 503)["type"] == "server_error"
    assert int(response.headers["retry-after"]) > 0
    assert "x-should-retry" not in response.headers
    assert client.post(TRANSCRIPTIONS, files=files).status_code == 200


@pytest.mark.usefixtures("always_computing")
def test_a_missed_deadline_is_a_504_that_must_not_be_retried(post: Post) -> None:
    response = post(clip="long", timeout="0.1")
    assert error(response, 504)["type"] == "server_error"
    assert response.headers["x-should-retry"] == "false"


def test_an_unexpected_error_is_a_500(settings: Settings, models: ModelManager) -> None:
    with TestClient(create_app(settings, models), raise_server_exceptions=False) as client:
        del client.app_state["models"]
        response = client.get("/v1/models")
        assert error(response, 500)["type"] == "server_error"
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/audio/speech", 404),
        ("GET", TRANSCRIPTIONS, 405),
        ("PUT", TRANSLATIONS, 405),
        ("POST", "/v1/models", 405),
    ],
)
def test_an_unknown_route_is_an_error_of_openais_shape(client: TestClient, method: str, path: str, status: int) -> None:
    failure = error(client.request(method, path), status)
    assert failure["type"] == "invalid_request_error"
    assert f"{method} {path}" in failure["message"]


def test_errors_of_other_routes_have_the_reference_projects_shape(client: TestClient) -> None:
    assert client.get("/v1x").json() == {"error": "Not Found (GET /v1x)"}
    assert client.post("/recognise").json() == {"error": "No file provided"}


@pytest.mark.usefixtures("always_computing")
def test_a_slow_response_begins_with_spaces(post: Post) -> None:
    response = post(clip="sentences", headers={"x-stainless-read-timeout": "0.3"})
    assert response.text.startswith(" ")
    assert response.json()["text"].startswith("On Monday")
    text = post(clip="sentences", headers={"x-stainless-read-timeout": "0.3"}, response_format="text").text
    assert text.startswith("On Monday")


@pytest.mark.usefixtures("always_computing")
def test_a_retry_gets_the_status_of_an_error_after_the_first_space(post: Post, pytestconfig: pytest.Config) -> None:
    headers = {"x-stainless-read-timeout": "0.3", "x-stainless-retry-count": "0"}
    if pytestconfig.getoption("--url"):
        with pytest.raises(RemoteProtocolError):  # over a network the response is cut off, so that clients ask again
            post(clip="long", headers=headers, timeout="0.4")
    else:
        first = post(clip="long", headers=headers, timeout="0.4")
        assert first.status_code == 200
        assert json.loads(first.text)["error"]["code"] == "timeout"
    second = post(clip="long", headers={**headers, "x-stainless-retry-count": "1"}, timeout="0.4")
    assert error(second, 504)["code"] == "timeout"
    assert second.headers["x-should-retry"] == "false"


class Connection:
    """An ASGI connection that disconnects after `bodies` body messages, or at the end of the response."""

    def __init__(self, audio: Path, clip: str, *, bodies: int, stream: bool = False) -> None:
        form = b'--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\n%s\r\n' % str(stream).encode()
        form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        self._request = [form + (audio / f"{clip}.flac").read_bytes() + b"\r\n--x--\r\n"]
        self._max_bodies = bodies
        self._disconnected = anyio.Event()
        self.bodies: list[bytes] = []

    async def receive(self) -> Message:
        if self._request:
            return {"type": "http.request", "body": self._request.pop()}
        if self._max_bodies:
            await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            if len(self.bodies) == self._max_bodies:
                self._disconnected.set()
                await anyio.lowlevel.checkpoint()


class Server:
    """The application with an engine of its own."""

    def __init__(self, settings: Settings, models: ModelManager, *, max_requests: int = 1) -> None:
        self._settings = settings
        self._models = models
        self._app = create_app(settings, models)
        admission = Admission(max_requests=max_requests, max_audio_seconds=3600)
        self.transcriber = Transcriber(models, AudioDecoder(max_seconds=600), admission)

    async def serve(self, connection: Connection, single_flight: SingleFlight, **headers: str) -> None:
        all_headers = {"content-type": "multipart/form-data; boundary=x", "host": "localhost", **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": TRANSCRIPTIONS,
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), text.encode()) for name, text in all_headers.items()],
            "state": {
                "transcriber": self.transcriber,
                "models": ModelAdmin(self._models),
                "settings": self._settings,
                "single_flight": single_flight,
            },
        }
        await self._app(scope, connection.receive, connection.send)


def test_a_disconnect_cancels_a_stream(settings: Settings, models: ModelManager, audio: Path) -> None:
    server, connection = Server(settings, models), Connection(audio, "long", bodies=2, stream=True)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            await server.serve(connection, SingleFlight(group))
            with server.transcriber.admission.admit():
                pass

    before = models.current.batcher.statistics.items
    anyio.run(run)
    assert 2 <= len(connection.bodies) < 10
    assert models.current.batcher.statistics.items - before <= 4


def test_a_retry_joins_the_work_of_the_disconnected_request(
    settings: Settings, models: ModelManager, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(settings, models, max_requests=2)
    left, again = Connection(audio, "sentences", bodies=0), Connection(audio, "sentences", bodies=1)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            single_flight = SingleFlight(group, grace=3600)
            await server.serve(left, single_flight, x_stainless_retry_count="0")
            await server.serve(again, single_flight, x_stainless_retry_count="1")
            group.cancel_scope.cancel()

    with caplog.at_level("INFO", "whisper_server"):
        anyio.run(run)
    assert json.loads(b"".join(again.bodies))["text"].startswith("On Monday")
    assert sum(" transcribed " in record.getMessage() for record in caplog.records) == 1


def test_a_disconnect_cancels_work_that_will_not_be_retried(
    settings: Settings, models: ModelManager, audio: Path
) -> None:
    server, left = Server(settings, models), Connection(audio, "long", bodies=0)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            await server.serve(left, SingleFlight(group))
            with server.transcriber.admission.admit():
                pass

    anyio.run(run)
