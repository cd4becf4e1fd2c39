"""The official Python SDK against a real server: its own types, strictly, and no retry that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from openai.types import Model, ModelDeleted
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)
from servers import LiveServer, live_server

# The SDK calls translations deprecated, and serves them still.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

TEXT = "The kettle is on the stove and the tea is almost ready."


class Counted:
    """The SDK with its own number of retries, and how many requests it has sent."""

    def __init__(self, url: str) -> None:
        self.requests = 0
        http = openai.DefaultHttpxClient(event_hooks={"request": [self._count]})
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http)

    def _count(self, request: object) -> None:
        self.requests += 1


@dataclass
class Elsewhere:
    url: str


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer | Elsewhere]:
    if url := request.config.getoption("--url"):
        yield Elsewhere(url)
    else:
        with live_server() as running:
            yield running


@pytest.fixture
def counted(server: LiveServer) -> Iterator[Counted]:
    counted = Counted(server.url)
    with counted.client:
        yield counted


@pytest.fixture
def sdk(counted: Counted) -> Iterator[openai.OpenAI]:
    """Fails if a request was sent more than once."""
    yield counted.client
    assert counted.requests == 1


@pytest.fixture
def short(audio: Path) -> Path:
    return audio / "short.flac"


def test_json(sdk: openai.OpenAI, short: Path) -> None:
    raw = sdk.audio.transcriptions.with_raw_response.create(
        file=short, model="gpt-4o-transcribe", include=["logprobs"], language="en", prompt="Tea.", temperature=0
    )
    Transcription.model_validate(raw.http_response.json(), strict=True)
    parsed = raw.parse()
    assert parsed.text == TEXT
    assert parsed.usage is not None and parsed.usage.type == "duration"
    assert parsed.logprobs is not None and parsed.logprobs[0].token == " The"
    assert parsed.languages is not None and parsed.languages[0].code == "en"


def test_verbose_json(sdk: openai.OpenAI, short: Path) -> None:
    raw = sdk.audio.transcriptions.with_raw_response.create(
        file=short,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        chunking_strategy={"type": "server_vad", "threshold": 0.4, "prefix_padding_ms": 300},
        extra_body={"beam_size": 2},
    )
    TranscriptionVerbose.model_validate(raw.http_response.json(), strict=True)
    parsed = raw.parse()
    assert isinstance(parsed, TranscriptionVerbose)
    assert parsed.language == "english"
    assert parsed.words and parsed.segments
    assert parsed.words[0].word == "The"


@pytest.mark.parametrize(("response_format", "start"), [("text", "The kettle"), ("srt", "1\n00:"), ("vtt", "WEBVTT")])
def test_files(sdk: openai.OpenAI, short: Path, response_format: Any, start: str) -> None:
    body: object = sdk.audio.transcriptions.create(file=short, model="whisper-1", response_format=response_format)
    assert isinstance(body, str)
    assert body.startswith(start)


def test_stream(sdk: openai.OpenAI, audio: Path) -> None:
    stream = sdk.audio.transcriptions.create(
        file=audio / "sentences.flac", model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"]
    )
    *deltas, done = list(stream)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert done.text == "".join(event.delta for event in deltas if isinstance(event, TranscriptionTextDeltaEvent))
    assert len(deltas) > 1
    for event in (*deltas, done):
        type(event).model_validate(event.to_dict(), strict=True)
    assert done.usage is not None and done.usage.total_tokens > 0


def test_translation(sdk: openai.OpenAI, short: Path) -> None:
    raw = sdk.audio.translations.with_raw_response.create(file=short, model="whisper-1")
    Translation.model_validate(raw.http_response.json(), strict=True)
    assert raw.parse().text == TEXT


def test_verbose_translation(sdk: openai.OpenAI, short: Path) -> None:
    raw = sdk.audio.translations.with_raw_response.create(file=short, model="whisper-1", response_format="verbose_json")
    TranslationVerbose.model_validate(raw.http_response.json(), strict=True)


def test_asynchronous_clients_share_the_server(server: LiveServer, short: Path) -> None:
    async def run() -> list[str]:
        texts: list[str] = []

        async def transcribe() -> None:
            texts.append((await client.audio.transcriptions.create(file=short, model="whisper-1")).text)

        async def stream() -> None:
            events = await client.audio.transcriptions.create(file=short, model="whisper-1", stream=True)
            texts.extend([event.text async for event in events if event.type == "transcript.text.done"])

        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
        async with client, anyio.create_task_group() as group:
            for work in (transcribe, stream, transcribe):
                group.start_soon(work)
        return texts

    assert anyio.run(run) == [TEXT] * 3


@pytest.mark.parametrize(
    ("kind", "options", "param"),
    [
        (openai.NotFoundError, {"model": "nosuch"}, "model"),
        (openai.BadRequestError, {"model": "whisper-1", "response_format": "diarized_json"}, "response_format"),
        (openai.BadRequestError, {"model": "whisper-1", "temperature": 3}, "temperature"),
        (openai.BadRequestError, {"model": "whisper-1", "known_speaker_names": ["A"]}, "known_speaker_names"),
        (openai.BadRequestError, {"model": "whisper-1", "file": b"no audio", "stream": True}, "file"),
        (openai.InternalServerError, {"model": "whisper-1", "extra_body": {"timeout": "0.1"}}, "timeout"),
    ],
)
def test_errors_are_raised_once(
    sdk: openai.OpenAI, audio: Path, kind: type[openai.APIStatusError], options: dict[str, Any], param: str
) -> None:
    with pytest.raises(kind) as caught:
        sdk.audio.transcriptions.create(**{"file": audio / "long.flac", **options})
    assert caught.value.param == param
    assert caught.value.message


def test_the_models(server: LiveServer) -> None:
    counted = Counted(server.url)
    with counted.client as client:
        model, alias = client.models.list()
        for listed in (model, alias):
            Model.model_validate(listed.to_dict(), strict=True)
        assert client.models.retrieve("whisper-1").id == alias.id == "whisper-1"
        assert client.models.retrieve("Systran/faster-whisper-tiny.en").id == model.id == "tiny.en"
        with pytest.raises(openai.ConflictError):
            client.models.delete("tiny.en")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nosuch")
    assert counted.requests == 5


@pytest.mark.full
def test_a_model_on_demand(audio: Path, short: Path) -> None:
    with live_server("--on-demand-models") as server, Counted(server.url).client as client:
        spoken = client.audio.transcriptions.create(
            file=audio / "german.flac", model="base", extra_body={"languages": ["es", "de"]}
        )
        assert "Guten Abend" in spoken.text
        assert spoken.languages is not None and spoken.languages[0].code == "de"
        assert {model.id for model in client.models.list()} == {"tiny.en", "base", "whisper-1"}
        translated = client.audio.translations.create(file=audio / "german.flac", model="base")
        assert "evening" in translated.text.lower()
        deleted = client.models.delete("base")
        ModelDeleted.model_validate(deleted.to_dict(), strict=True)
        assert [model.id for model in client.models.list()] == ["tiny.en", "whisper-1"]


def test_a_late_error_reaches_the_caller_as_itself(server: LiveServer, audio: Path) -> None:
    """The body began early and was cut off; the SDK's own retry gets the status that could not be sent then."""
    counted = Counted(server.url)
    with counted.client as client, pytest.raises(openai.InternalServerError) as caught:
        client.audio.transcriptions.create(
            file=audio / "long.flac", model="whisper-1", timeout=0.6, extra_body={"timeout": "0.5"}
        )
    assert caught.value.code == "timeout"
    assert counted.requests == 2


def test_a_client_that_gives_up_too_early_gets_the_result_of_its_own_work(server: LiveServer, audio: Path) -> None:
    """No attempt is long enough for the work, which goes on between them."""
    counted = Counted(server.url)
    with counted.client.with_options(timeout=0.3, max_retries=20) as client:
        text: object = client.audio.transcriptions.create(
            file=audio / "sentences.flac", model="whisper-1", response_format="text"
        )
    assert str(text).startswith("On Monday morning")
    assert counted.requests > 1
