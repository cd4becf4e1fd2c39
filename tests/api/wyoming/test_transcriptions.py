"""Utterances as Home Assistant sends them, and the events that it gets."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx2
import numpy as np
import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming_client import FORMAT, RunningServer, answer, receive, samples, send, transcribed, utterance, wyoming_server

from whisper_server.inference.models.manager import ModelManager


def http_text(client: httpx2.Client, clip: Path) -> str:
    files = {"file": (clip.name, clip.read_bytes())}
    text: str = client.post("/v1/audio/transcriptions", files=files).raise_for_status().json()["text"]
    return text


@pytest.mark.parametrize("name", ["short", "sentences"])
def test_the_transcript_is_that_of_http(client: httpx2.Client, models: ModelManager, audio: Path, name: str) -> None:
    clip = audio / f"{name}.flac"

    async def transcribe() -> str:
        async with wyoming_server(models) as running, running.client() as client:
            return await transcribed(client, utterance(samples(clip).tobytes(), transcribe=Transcribe(language="en")))

    assert anyio.run(transcribe) == http_text(client, clip)


def test_a_transcript_is_streamed_segment_by_segment(models: ModelManager, audio: Path) -> None:
    """In the order of the protocol's description."""

    async def transcribe() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(samples(audio / "sentences.flac").tobytes()))
            start, *chunks, transcript, stop = await answer(client)
        types = [start.type, *(chunk.type for chunk in chunks), transcript.type, stop.type]
        assert types == ["transcript-start", *["transcript-chunk"] * len(chunks), "transcript", "transcript-stop"]
        assert len(chunks) > 1
        assert "".join(chunk.data["text"] for chunk in chunks) == transcript.data["text"]
        assert transcript.data["language"] == "en"

    anyio.run(transcribe)


def test_a_connection_serves_several_utterances_and_questions(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def converse() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            texts = [await transcribed(client, utterance(pcm))]
            await send(client, Describe(), Ping(text="still there?"))
            assert [(await receive(client)).type for _ in range(2)] == ["info", "pong"]
            texts += [await transcribed(client, utterance(pcm, transcribe=Transcribe(name="whisper-1")))]
            texts += [await transcribed(client, utterance(pcm, transcribe=Transcribe(language="")))]
        assert len(set(texts)) == 1 and "stove" in texts[0]

    anyio.run(converse)


def test_utterances_that_are_sent_at_once_are_answered_in_order(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def converse() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(pcm), Describe(), *utterance(b""), Ping())
            types = [event.type for event in [await receive(client) for _ in range(9)]]
        first = ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
        second = ["transcript-start", "transcript", "transcript-stop"]
        assert [type for type in types if type.startswith("transcript")] == [*first, *second]

    anyio.run(converse)


def test_eight_satellites_speak_at_once(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()
    texts: list[str] = []

    async def speak(running: RunningServer) -> None:
        async with running.client() as client:
            texts.append(await transcribed(client, utterance(pcm, transcribe=Transcribe(language="en-US"))))

    async def all_speak() -> None:
        async with wyoming_server(models) as running, anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(speak, running)

    anyio.run(all_speak)
    assert len(texts) == 8 and len(set(texts)) == 1 and "stove" in texts[0]


def test_the_info_has_the_model_with_its_languages(models: ModelManager) -> None:
    async def describe() -> Info:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, Describe())
            return Info.from_event(await receive(client))

    (program,) = anyio.run(describe).asr
    assert (program.name, program.installed, program.supports_transcript_streaming) == ("whisper-server", True, True)
    assert [(model.name, model.installed, model.languages) for model in program.models] == [("tiny.en", True, ["en"])]


def test_other_formats_are_converted(models: ModelManager, audio: Path) -> None:
    """Here 48 kHz stereo in 24 bits; the chunks split samples."""
    upsampled = np.repeat(np.repeat(samples(audio / "short.flac").astype("<i4") * 2**8, 3), 2)
    pcm = upsampled.view("u1").reshape(-1, 4)[:, :3].tobytes()
    format = {"rate": 48_000, "width": 3, "channels": 2}

    async def transcribe() -> str:
        async with wyoming_server(models) as running, running.client() as client:
            chunks = [AudioChunk(**format, audio=pcm[i : i + 9_999]) for i in range(0, len(pcm), 9_999)]
            return await transcribed(client, [AudioStart(**format), *chunks, AudioStop()])

    assert "tea is almost ready" in anyio.run(transcribe)


def test_a_whole_recording_may_be_one_chunk_without_a_start(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def transcribe() -> str:
        async with wyoming_server(models) as running, running.client() as client:
            return await transcribed(client, [AudioChunk(**FORMAT, audio=pcm), AudioStop()])

    assert "stove" in anyio.run(transcribe)


def test_a_new_start_discards_the_audio_before_it(models: ModelManager, audio: Path) -> None:
    pcm, other = (samples(audio / name).tobytes() for name in ("short.flac", "sentences.flac"))

    async def transcribe() -> list[str]:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(other, stop=False))
            first = await transcribed(client, utterance(pcm))
            await send(client, *utterance(other, stop=False), Transcribe(language="en"))
            return [first, await transcribed(client, utterance(pcm))]

    texts = anyio.run(transcribe)
    assert texts[0] == texts[1] and texts[0].startswith("The kettle")


def test_an_utterance_without_audio_has_an_empty_transcript(models: ModelManager) -> None:
    """Home Assistant sends one when it has heard nothing."""

    async def transcribe() -> list[str]:
        async with wyoming_server(models) as running, running.client() as client:
            return [await transcribed(client, utterance(b"")), await transcribed(client, [AudioStop()])]

    assert anyio.run(transcribe) == ["", ""]


@pytest.mark.full
def test_names_to_expect_become_the_prompt(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def transcribe() -> str:
        async with wyoming_server(models) as running, running.client() as client:
            transcribe = Transcribe(transcript_names=["Küche"] * 5_000, transcript_terms=["kettle"])
            return await transcribed(client, utterance(pcm, transcribe=transcribe))

    assert "stove" in anyio.run(transcribe)


def test_transcriptions_are_counted(models: ModelManager, audio: Path) -> None:
    async def transcribe() -> str:
        async with wyoming_server(models) as running:
            async with running.client() as client:
                await transcribed(client, utterance(samples(audio / "short.flac").tobytes()))
            return running.metrics.text().decode()

    metrics = anyio.run(transcribe)
    assert 'whisper_requests_total{method="WYOMING",route="transcribe",status="200"} 1.0' in metrics
    assert "whisper_audio_seconds_total 3.1" in metrics
