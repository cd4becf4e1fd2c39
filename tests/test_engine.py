from __future__ import annotations

import io
from pathlib import Path
from threading import Event

import anyio
import pytest

from whisper_server.engine import Engine
from whisper_server.inference.audio import AudioDecoder
from whisper_server.inference.models import ModelManager


class Endless(io.BytesIO):
    """An upload that tells when the engine starts to read it and when it has let go."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.started = Event()

    def read(self, size: int | None = -1) -> bytes:
        self.started.set()
        return super().read(size)


def test_a_transcript_has_text_language_and_duration(models: ModelManager, audio: Path) -> None:
    engine = Engine(models, AudioDecoder(max_seconds=60))
    transcript = anyio.run(engine.transcribe, io.BytesIO((audio / "short.flac").read_bytes()), {})
    assert "kettle" in transcript.text
    assert transcript.language == "en"
    assert transcript.duration == pytest.approx(3.146, abs=0.01)


def test_cancelling_the_caller_stops_the_thread(models: ModelManager, audio: Path) -> None:
    engine = Engine(models, AudioDecoder(max_seconds=600))
    upload = Endless((audio / "long.flac").read_bytes())

    async def leave_soon() -> float:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(engine.transcribe, upload, {})
                await anyio.to_thread.run_sync(upload.started.wait)
                scope.cancel()
        started = anyio.current_time()
        # The thread gives its place back when it has stopped.
        with anyio.fail_after(30):
            for _ in range(8):
                await engine.transcribe(io.BytesIO((audio / "short.flac").read_bytes()), {"max_new_tokens": 1})
        return anyio.current_time() - started

    assert anyio.run(leave_soon) < 30
