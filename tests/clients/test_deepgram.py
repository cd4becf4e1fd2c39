"""Deepgram's clients, unmodified, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients.conftest import RunClient
from clients.environments import Client
from faster_whisper import decode_audio
from recorder import pcm16
from servers import LiveServer, live_server

pytestmark = pytest.mark.network

KEY = "a-key-of-the-tests"
CLIENTS = (
    Client("deepgram-sdk-3", "deepgram_sdk_3.py", ("deepgram-sdk==3.11.0",)),
    Client("deepgram-sdk-4", "deepgram_sdk_3.py", ("deepgram-sdk==4.8.1",)),
    Client("deepgram-sdk-7", "deepgram_sdk_7.py", ("deepgram-sdk==7.17.0",)),
    Client("deepgram-npm-3", "deepgram_npm_3.mjs", ("@deepgram/sdk@3.13.0",)),
    Client("deepgram-npm-4", "deepgram_npm_3.mjs", ("@deepgram/sdk@4.11.3",)),
    Client("deepgram-npm-5", "deepgram_npm_5.mjs", ("@deepgram/sdk@5.13.0",)),
    Client("litellm", "litellm_deepgram.py", ("litellm==1.110.2",)),
    Client("livekit", "livekit_deepgram.py", ("livekit-plugins-deepgram==1.8.9",)),
    Client("pipecat", "pipecat_deepgram.py", ("pipecat-ai[deepgram]==1.14.0",)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server("--no-autotune", "--no-jobs", WHISPER_SERVER_API_KEY=KEY) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.remaining_log()


@pytest.fixture(scope="module")
def speech(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence of 3 s and a pause, as PCM16 at 16 kHz."""
    samples = decode_audio(str(audio / "short.flac"))
    file = tmp_path_factory.mktemp("speech") / "short.pcm"
    file.write_bytes(pcm16(np.concatenate([samples, np.zeros(19_200, np.float32)])))
    return file


def is_transcript(text: str) -> bool:
    """Allow the words that so small a model sometimes gets wrong."""
    return text.lower().startswith("the ") and "is on the stove" in text and text.endswith("almost ready.")


# What a client's script prints, and how it is checked. Each prints some of them.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "file": is_transcript,
    "granted": is_transcript,
    "live": lambda finals: is_transcript(" ".join(finals)) and all(len(final.split()) > 2 for final in finals),
    "words": lambda count: count == 12,
    "paragraphs": lambda count: count == 1,
    "utterances": lambda count: count == 1,
    "warnings": lambda parameters: parameters == ["diarize"],
    "refused": lambda message: "--allow-url-fetch" in message,
}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client(client: Client, run_client: RunClient, server: LiveServer, audio: Path, speech: Path) -> None:
    printed = run_client(client, server.url, KEY, str(audio / "short.flac"), str(speech))
    assert printed
    assert {name: value for name, value in printed.items() if not CHECKS[name](value)} == {}
