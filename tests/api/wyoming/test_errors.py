"""Errors reach the client as events with a text and a code, and leave the connection usable where possible."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from process import memory
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming_client import (
    FORMAT,
    RunningServer,
    answer,
    is_closed,
    raw_answer,
    receive,
    samples,
    send,
    transcribed,
    utterance,
    wyoming_server,
)

from whisper_server.inference.models.manager import ModelManager

SECOND = bytes(32_000)


def line(**header: Any) -> bytes:
    return json.dumps(header).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ({"name": "large-v9"}, "model_not_found", "large-v9"),
        ({"name": 5}, "invalid_value", "name"),
        ({"name": "x" * 301}, "invalid_value", "name"),
        ({"language": "de"}, "invalid_value", "language"),
        ({"language": "klingon"}, "invalid_value", "language"),
        ({"language": ["en"]}, "invalid_value", "language"),
        ({"transcript_names": "Anna"}, "invalid_value", "transcript_names"),
        ({"transcript_terms": [1]}, "invalid_value", "transcript_terms"),
    ],
)
def test_wrong_options_are_an_error_and_the_next_utterance_works(
    models: ModelManager, audio: Path, data: dict[str, Any], code: str, words: str
) -> None:
    """Whether the client goes on with the audio of the refused utterance, as Home Assistant does, or not."""
    pcm = samples(audio / "short.flac").tobytes()

    async def converse() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            for audio in (utterance(SECOND), ()):
                await client.write_event(Event("transcribe", data))
                await send(client, *audio)
                (error,) = await answer(client)
                assert error.data["code"] == code and words in error.data["text"]
                assert "stove" in await transcribed(client, utterance(pcm, transcribe=Transcribe()))

    anyio.run(converse)


@pytest.mark.parametrize(
    ("format", "code"),
    [
        ({"rate": 16_000, "width": 2}, "invalid_message"),
        ({"rate": "16000", "width": 2, "channels": 1}, "invalid_message"),
        ({"rate": True, "width": 2, "channels": 1}, "invalid_message"),
        ({"rate": 16_000, "width": 8, "channels": 1}, "invalid_audio"),
        ({"rate": 0, "width": 2, "channels": 1}, "invalid_audio"),
        ({"rate": 10**30, "width": 2, "channels": 1}, "invalid_audio"),
        ({"rate": 16_000, "width": 2, "channels": -1}, "invalid_audio"),
    ],
)
@pytest.mark.parametrize("type", ["audio-start", "audio-chunk"])
def test_a_wrong_format_is_an_error_and_the_next_utterance_works(
    models: ModelManager, audio: Path, type: str, format: dict[str, Any], code: str
) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def converse() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            await client.write_event(Event(type, format, SECOND if type == "audio-chunk" else None))
            await send(client, AudioChunk(**FORMAT, audio=SECOND), AudioStop())
            (error,) = await answer(client)
            assert error.data["code"] == code
            assert "stove" in await transcribed(client, utterance(pcm))

    anyio.run(converse)


def test_after_an_error_the_connection_is_closed_unless_the_client_goes_on(models: ModelManager) -> None:
    """Home Assistant waits for a transcript or the end of the connection, whatever else it gets."""

    async def converse() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(SECOND, transcribe=Transcribe(name="large-v9")))
            assert (await receive(client)).type == "error"
            with anyio.fail_after(10):
                assert await is_closed(client)

    anyio.run(converse)


def test_too_much_audio_is_refused_while_it_arrives(models: ModelManager) -> None:
    async def speak_for_ever() -> None:
        async with wyoming_server(models, max_audio_seconds=2) as running:
            with pytest.raises(ConnectionError):
                async with running.client() as client:
                    await send(client, AudioStart(**FORMAT))
                    while True:
                        await send(client, AudioChunk(**FORMAT, audio=SECOND))
            async with running.client() as client:
                await send(client, *utterance(SECOND * 3, stop=False))
                (error,) = await answer(client)
                assert error.data["code"] == "audio_too_long"
                assert await is_closed(client)

    anyio.run(speak_for_ever)


def test_a_declared_length_takes_no_memory(models: ModelManager) -> None:
    """The payload of a chunk is decoded as it arrives, and lengths of anything else are limited."""
    header = line(type="audio-chunk", data=FORMAT, payload_length=10 * 2**30)

    async def send_much() -> bytes:
        async with wyoming_server(models, max_audio_seconds=300) as running:
            before = memory("VmRSS")
            received = await raw_answer(running.uri, header + bytes(12_000_000))
            assert memory("VmRSS") - before < 100e6
            return received

    assert b"audio_too_long" in anyio.run(send_much)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        b"[]\n",
        b"{}\n",
        b'{"type": 5}\n',
        b'{"type": "describe", "data": [1]}\n',
        b'{"type": "describe", "data": {"x": "\\u0000"}}\n',
        b"[" * 20_000 + b"\n",
        b"x" * 100_000,
        line(type="transcribe", data_length=10 * 2**30),
        line(type="transcribe", data_length="8"),
        line(type="transcribe", data_length=-1),
        line(type="transcribe", data_length=2) + b"[]",
        line(type="transcribe", data_length=2) + b"{]",
        line(type="describe", payload_length=10 * 2**30),
        line(type="audio-chunk", data=FORMAT, payload_length=1.5),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_event_ends_the_connection_with_an_error(models: ModelManager, data: bytes) -> None:
    async def send_it() -> bytes:
        async with wyoming_server(models) as running:
            received = await raw_answer(running.uri, data)
            assert b'"info"' in await raw_answer(running.uri, line(type="describe") + b"?\n")
            return received

    header, _, content = anyio.run(send_it).partition(b"\n")
    assert json.loads(header)["type"] == "error"
    assert json.loads(content)["code"] == "invalid_message"


def test_unknown_events_are_ignored(models: ModelManager) -> None:
    async def send_unknown() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            for event in (Event("select-program", {"name": "x"}), Event("detect", {}, bytes(70_000)), Event("ping")):
                await client.write_event(event)
            assert (await receive(client)).type == "pong"

    anyio.run(send_unknown)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "session_idle"),
        (line(type="describe")[:5], "upload_timed_out"),
        (line(type="transcribe", data_length=5) + b"{", "upload_timed_out"),
        (line(type="audio-start", data=FORMAT), "upload_timed_out"),
        (line(type="audio-chunk", data=FORMAT, payload_length=9) + b"1", "upload_timed_out"),
    ],
)
def test_silent_clients_are_disconnected(models: ModelManager, sent: bytes, code: str) -> None:
    async def wait() -> bytes:
        async with wyoming_server(models, receive_timeout=0.2, session_idle_timeout=0.3) as running:
            return await raw_answer(running.uri, sent)

    assert f'"{code}"'.encode() in anyio.run(wait)


@pytest.mark.parametrize("refused", [False, True])
def test_an_utterance_has_a_longest_duration(models: ModelManager, refused: bool) -> None:
    """Whether its audio is kept or, after an error, dropped."""
    transcribe = line(type="transcribe", data={"name": "large-v9"}) if refused else b""
    chunk = line(type="audio-chunk", data=FORMAT, payload_length=2) + b"12"

    async def drip(running: RunningServer) -> bytes:
        host, _, port = running.uri.removeprefix("tcp://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(transcribe)
        received = b""
        with anyio.fail_after(30):
            while not reader.at_eof():
                writer.write(chunk)
                with anyio.move_on_after(0.02):
                    received += await reader.read(1000)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return received

    async def run() -> bytes:
        async with wyoming_server(models, max_session_seconds=1) as running:
            return await drip(running)

    assert (b'"model_not_found"' if refused else b'"session_too_long"') in anyio.run(run)


def test_a_full_server_refuses_utterances(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def converse() -> None:
        async with wyoming_server(models, max_requests=1) as running, running.client() as client:
            with running.transcriber.admission.admit():
                await send(client, *utterance(SECOND))
                (error,) = await answer(client)
                assert error.data["code"] == "overloaded"
                await send(client, AudioStop())
                (error,) = await answer(client)
                assert error.data["code"] == "overloaded"
            assert "stove" in await transcribed(client, utterance(pcm))

    anyio.run(converse)


def test_the_audio_of_all_requests_is_limited(models: ModelManager) -> None:
    async def converse() -> None:
        async with wyoming_server(models, max_queued_audio_seconds=10) as running, running.client() as client:
            with running.transcriber.admission.admit() as context:
                running.transcriber.admission.set_audio(context, 9)
                await send(client, *utterance(SECOND * 2))
                (error,) = await answer(client)
                assert error.data["code"] == "overloaded"

    anyio.run(converse)


def test_a_transcription_has_the_time_limit_of_requests(
    models: ModelManager, audio: Path, always_computing: None
) -> None:
    async def converse() -> None:
        async with wyoming_server(models, request_timeout=0.01) as running, running.client() as client:
            await send(client, *utterance(samples(audio / "short.flac").tobytes()))
            (error,) = await answer(client)
            assert error.data["code"] == "timeout"

    anyio.run(converse)
