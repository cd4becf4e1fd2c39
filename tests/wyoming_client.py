"""A Wyoming server in the event loop of a test, and what clients send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import decode_audio
from numpy.typing import NDArray
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event, Eventable

from benchmarks.audio_files import to_pcm16
from whisper_server.api.metrics import Metrics
from whisper_server.api.wyoming.server import WyomingServer
from whisper_server.bootstrap import build_transcriber
from whisper_server.cli.server.listeners import wyoming_address, wyoming_socket
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.models.manager import ModelManager

CHUNK_BYTES = 2048
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


@dataclass(frozen=True, slots=True)
class RunningServer:
    uri: str
    server: WyomingServer
    transcriber: Transcriber
    metrics: Metrics

    def client(self) -> AsyncClient:
        return AsyncClient.from_uri(self.uri, connect_timeout=10, read_timeout=120)


@asynccontextmanager
async def wyoming_server(
    models: ModelManager, *, uri: str = "tcp://127.0.0.1:0", **changed: Any
) -> AsyncIterator[RunningServer]:
    """Serve these models with changed settings until the end of the block."""
    settings = Settings(**{"model": "tiny.en", "device": "cpu", "offline": True, **changed})
    metrics = Metrics()
    transcriber = build_transcriber(settings, models, metrics)
    server = WyomingServer(transcriber, ModelAdmin(models), metrics, settings)
    with wyoming_socket(uri) as sock:
        await server.start(sock)
        try:
            yield RunningServer(wyoming_address(sock), server, transcriber, metrics)
        finally:
            await server.stop(0)


def samples(clip: Path) -> NDArray[np.int16]:
    """The audio of a file, at 16 kHz."""
    return to_pcm16(decode_audio(str(clip)))


def utterance(pcm: bytes, *, transcribe: Transcribe | None = None, stop: bool = True) -> Iterator[Eventable]:
    """The events of Home Assistant: transcribe, audio-start, audio-chunk …, audio-stop."""
    if transcribe is not None:
        yield transcribe
    yield AudioStart(**FORMAT)
    for start in range(0, len(pcm), CHUNK_BYTES):
        yield AudioChunk(**FORMAT, audio=pcm[start : start + CHUNK_BYTES])
    if stop:
        yield AudioStop()


async def send(client: AsyncClient, *events: Eventable) -> None:
    for event in events:
        await client.write_event(event.event())


async def receive(client: AsyncClient) -> Event:
    event = await client.read_event()
    assert event is not None, "the connection was closed"
    return event


async def answer(client: AsyncClient) -> list[Event]:
    """Return the events up to transcript-stop or an error."""
    events = [await receive(client)]
    while events[-1].type not in ("transcript-stop", "error"):
        events.append(await receive(client))
    return events


async def transcribed(client: AsyncClient, events: Iterator[Eventable] | Sequence[Eventable]) -> str:
    """Send an utterance and return the text of its transcript."""
    await send(client, *events)
    received = await answer(client)
    (text,) = (event.data["text"] for event in received if event.type == "transcript")
    return str(text)


async def is_closed(client: AsyncClient) -> bool:
    """Wait for the server's next event, or the end of the connection."""
    try:
        return await client.read_event() is None
    except ConnectionError:
        return True


async def raw_answer(uri: str, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes on a connection of their own, and return all that the server sends until it closes the connection."""
    host, _, port = uri.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
        await writer.wait_closed()
