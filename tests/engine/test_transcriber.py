from __future__ import annotations

import io
from pathlib import Path
from threading import Event

import anyio
import pytest

from whisper_server.core.errors import DeadlinePassed, Overloaded
from whisper_server.engine.admission import Admission
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.models.manager import ModelManager


class ObservedUpload(io.BytesIO):
    """An upload whose `started` is set when the transcriber begins to read it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.started = Event()

    def read(self, size: int | None = -1) -> bytes:
        self.started.set()
        return super().read(size)


def transcriber_of(models: ModelManager, *, max_requests: int = 8, max_audio_seconds: float = 3600) -> Transcriber:
    admission = Admission(max_requests=max_requests, max_audio_seconds=max_audio_seconds)
    return Transcriber(models, AudioDecoder(max_seconds=600), admission)


def clip(audio: Path, name: str) -> ObservedUpload:
    return ObservedUpload((audio / f"{name}.flac").read_bytes())


def test_a_transcript_has_text_language_and_duration(models: ModelManager, audio: Path) -> None:
    transcriber = transcriber_of(models)
    with transcriber.admission.admit() as context:
        transcript = anyio.run(transcriber.transcribe, context, clip(audio, "short"), {}, RunOptions())
    assert "stove" in transcript.text
    assert transcript.language == "en"
    assert transcript.duration == pytest.approx(3.146, abs=0.01)


def test_cancelling_the_caller_stops_the_work(models: ModelManager, audio: Path) -> None:
    transcriber = transcriber_of(models)
    upload = clip(audio, "long")

    async def cancel_soon() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(transcriber.transcribe, context, upload, {}, RunOptions())
            await anyio.to_thread.run_sync(upload.started.wait)
            group.cancel_scope.cancel()

    with transcriber.admission.admit() as context:
        anyio.run(cancel_soon)
        assert context.cancelled


@pytest.mark.usefixtures("always_computing")
def test_a_deadline_ends_the_work(models: ModelManager, audio: Path) -> None:
    transcriber = transcriber_of(models)
    with transcriber.admission.admit() as context:
        with pytest.raises(DeadlinePassed, match="0.05 seconds"):
            anyio.run(transcriber.transcribe, context, clip(audio, "long"), {}, RunOptions(timeout=0.05))
        assert context.cancelled


def test_one_request_too_many_is_refused(models: ModelManager) -> None:
    transcriber = transcriber_of(models, max_requests=2)
    admit = transcriber.admission.admit
    with admit(), admit(), pytest.raises(Overloaded), admit():
        pass
    with admit():
        pass


def test_a_full_server_refuses_a_request_before_its_upload(models: ModelManager) -> None:
    transcriber = transcriber_of(models, max_requests=1)
    transcriber.admission.check_room()
    with transcriber.admission.admit(), pytest.raises(Overloaded):
        transcriber.admission.check_room()
    transcriber.admission.check_room()


def test_transcribed_audio_is_reported_and_counted(models: ModelManager, audio: Path) -> None:
    reported: list[tuple[float, float]] = []
    admission = Admission(max_requests=8, max_audio_seconds=3600)
    transcriber = Transcriber(
        models, AudioDecoder(max_seconds=600), admission, on_transcribed=lambda *seconds: reported.append(seconds)
    )
    before = ModelAdmin(models).statistics()
    with transcriber.admission.admit() as context:
        anyio.run(transcriber.transcribe, context, clip(audio, "short"), {}, RunOptions())
    after = ModelAdmin(models).statistics()
    ((audio_seconds, seconds),) = reported
    assert audio_seconds == pytest.approx(3.146, abs=0.01) and 0 < seconds < 60
    assert (after.model, after.device, after.compute_type) == ("tiny.en", "cpu", "int8_float32")
    assert after.calls - before.calls >= after.batches - before.batches > 0
    assert after.memory > 0 and after.queued == after.crashes == 0


def test_too_much_audio_is_refused_unless_no_other_audio_waits(models: ModelManager, audio: Path) -> None:
    transcriber = transcriber_of(models, max_audio_seconds=2)
    with transcriber.admission.admit() as alone:
        assert anyio.run(transcriber.transcribe, alone, clip(audio, "short"), {}, RunOptions()).text
        with transcriber.admission.admit() as second, pytest.raises(Overloaded, match="3 seconds of audio"):
            anyio.run(transcriber.transcribe, second, clip(audio, "short"), {}, RunOptions())


def test_the_server_is_ready_while_the_workers_are_alive(models: ModelManager) -> None:
    assert ModelAdmin(models).ready
