"""Connections: their number, their end by the client, and their end by the server."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from wyoming.info import Describe
from wyoming_client import answer, is_closed, receive, samples, send, transcribed, utterance, wyoming_server

from whisper_server.inference.models.manager import ModelManager

CANCELLED = 'whisper_requests_total{method="WYOMING",route="transcribe",status="499"} 1.0'
FINISHED = 'whisper_requests_total{method="WYOMING",route="transcribe",status="200"} 1.0'


def test_a_disconnect_cancels_the_transcription(models: ModelManager, audio: Path, always_computing: None) -> None:
    async def speak_and_leave() -> str:
        async with wyoming_server(models) as running:
            async with running.client() as client:
                await send(client, *utterance(samples(audio / "long.flac").tobytes()))
                assert [(await receive(client)).type for _ in range(2)] == ["transcript-start", "transcript-chunk"]
            await running.server.stop(60)
            return running.metrics.text().decode()

    metrics = anyio.run(speak_and_leave)
    assert CANCELLED in metrics
    assert "whisper_cancelled_total 1.0" in metrics
    assert "whisper_requests_in_progress 0.0" in metrics


def test_a_disconnect_while_audio_arrives_leaves_nothing(models: ModelManager, audio: Path) -> None:
    async def leave_early() -> None:
        async with wyoming_server(models) as running:
            async with running.client() as client:
                await send(client, *utterance(samples(audio / "short.flac").tobytes(), stop=False))
            await running.server.stop(60)
            assert "WYOMING" not in running.metrics.text().decode()

    anyio.run(leave_early)


def test_a_stopping_server_finishes_transcriptions(models: ModelManager, audio: Path) -> None:
    async def stop_meanwhile() -> None:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(samples(audio / "sentences.flac").tobytes()))
            assert (await receive(client)).type == "transcript-start"
            async with anyio.create_task_group() as group:
                group.start_soon(running.server.stop, 60)
                events = await answer(client)
            assert [event.type for event in events[-2:]] == ["transcript", "transcript-stop"]
            assert await is_closed(client)
            assert FINISHED in running.metrics.text().decode()
            with pytest.raises(OSError):
                async with running.client():
                    pass

    anyio.run(stop_meanwhile)


def test_a_stopping_server_cancels_transcriptions_that_take_too_long(
    models: ModelManager, audio: Path, always_computing: None
) -> None:
    async def stop_meanwhile() -> str:
        async with wyoming_server(models) as running, running.client() as client:
            await send(client, *utterance(samples(audio / "long.flac").tobytes()))
            assert (await receive(client)).type == "transcript-start"
            with anyio.fail_after(30):
                await running.server.stop(0)
            return running.metrics.text().decode()

    assert CANCELLED in anyio.run(stop_meanwhile)


def test_a_stopping_server_closes_the_other_connections(models: ModelManager) -> None:
    async def stop() -> None:
        async with wyoming_server(models) as running, running.client() as idle, running.client() as speaking:
            await send(idle, Describe())
            await receive(idle)
            await send(speaking, *utterance(bytes(32_000), stop=False), Describe())
            await receive(speaking)
            with anyio.fail_after(10):
                await running.server.stop(60)
            assert await is_closed(idle)
            error = await receive(speaking)
            assert (error.type, error.data["code"]) == ("error", "server_stopping")
            assert await is_closed(speaking)

    anyio.run(stop)


def test_connections_are_limited(models: ModelManager, audio: Path) -> None:
    pcm = samples(audio / "short.flac").tobytes()

    async def connect() -> None:
        async with wyoming_server(models, max_requests=1) as running, running.client() as client:
            await send(client, Describe())
            await receive(client)
            async with running.client() as second:
                error = await receive(second)
                assert (error.type, error.data["code"]) == ("error", "overloaded")
                assert await is_closed(second)
            assert "stove" in await transcribed(client, utterance(pcm))

    anyio.run(connect)
