"""Clients of other projects against a real server: only the address and the key are set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.conftest import RunClient
from clients.environments import Client
from faster_whisper import decode_audio
from servers import LiveServer, live_server

from benchmarks.audio_files import to_pcm16, wav_bytes

KEY = "a-secret-of-the-tests"
# Each program gets the URL of a server, a clip and a key. All values that it prints contain the words of the clip.
CLIENTS = (
    Client("OpenAI Python 1", "openai_sdk.py", ("openai==1.109.1",)),
    Client("OpenAI Python 3", "openai_sdk.py", ("openai==3.57.0",)),
    Client("AzureOpenAI", "azure.py", ("openai==3.57.0",)),
    Client("Groq", "groq_sdk.py", ("groq==1.7.0",)),
    Client("LiteLLM", "litellm_sdk.py", ("litellm==1.110.2",)),
    Client(
        "LangChain",
        "langchain.py",
        ("langchain-community==0.4.2", "openai==3.57.0", "pydub==0.25.1", "imageio-ffmpeg==0.6.0"),
    ),
    Client("Haystack", "haystack_ai.py", ("haystack-ai==2.31.0",)),
    Client("SpeechRecognition", "speech_recognition_api.py", ("SpeechRecognition==3.17.0", "openai==3.57.0")),
    Client("OpenAI Agents", "openai_agents.py", ("openai-agents[voice]==0.24.0",)),
    Client("LiveKit", "livekit_openai.py", ("livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9")),
    Client("Pipecat", "pipecat_openai.py", ("pipecat-ai[openai]==1.14.0",)),
    Client("AI SDK", "ai_sdk.mjs", ("ai@7.0.173", "@ai-sdk/openai@4.0.118")),
)
WHISPER_CPP = Client("whisper-cpp-client", "whisper_cpp.py", ("whisper-cpp-client==0.1.1", "requests==2.32.5"))

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server("--no-jobs", WHISPER_SERVER_API_KEY=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def clip(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of short.flac as a WAV, which all clients can read."""
    path = tmp_path_factory.mktemp("clip") / "short.wav"
    path.write_bytes(wav_bytes(to_pcm16(decode_audio(str(audio / "short.flac")))))
    return str(path)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_the_text(client: Client, run_client: RunClient, server: LiveServer, clip: str) -> None:
    check(run_client(client, server.url, clip, KEY))


def test_whisper_cpps_client_gets_the_text(run_client: RunClient, clip: str) -> None:
    """It sends no key."""
    with live_server("--no-jobs") as server:
        check(run_client(WHISPER_CPP, server.url, clip))


def check(printed: dict[str, object]) -> None:
    assert printed
    for result in printed.values():
        text = re.sub(r"[^a-z ]", " ", json.dumps(result).lower())
        assert {"kettle", "stove", "tea"} <= set(text.split()), printed
