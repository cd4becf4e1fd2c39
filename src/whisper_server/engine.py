"""The async face of the blocking code: threads, and the end of work that nobody waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from anyio import CapacityLimiter, to_thread

from whisper_server.inference.audio import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.models import LoadedModel, ModelManager
from whisper_server.inference.tickets import Ticket
from whisper_server.inference.transcription import Transcript, transcribe

logger = logging.getLogger(__name__)

_MAX_TRANSCRIPTIONS = 8


class Engine:
    def __init__(self, models: ModelManager, decoder: AudioDecoder) -> None:
        self._models = models
        self._decoder = decoder
        self._transcriptions = CapacityLimiter(_MAX_TRANSCRIPTIONS)
        self._reloads = CapacityLimiter(1)

    async def transcribe(self, file: BinaryIO, options: Mapping[str, Any]) -> Transcript:
        """Decode the file and transcribe it with `options` of `WhisperModel.transcribe()`.

        If the caller is cancelled, the thread stops at the next window.
        """
        ticket = Ticket()
        try:
            return await to_thread.run_sync(
                self._transcribe, file, options, ticket, abandon_on_cancel=True, limiter=self._transcriptions
            )
        finally:
            ticket.cancel()

    def _transcribe(self, file: BinaryIO, options: Mapping[str, Any], ticket: Ticket) -> Transcript:
        started = time.monotonic()
        audio = self._decoder.decode(file, ticket)
        with self._models.lease() as model:
            transcript = transcribe(model.whisper_for(ticket), audio, options)
        logger.info(
            "%s transcribed %.1f s of audio in %.2f s",
            model.name,
            len(audio) / SAMPLE_RATE,
            time.monotonic() - started,
        )
        return transcript

    async def reload(self, name: str) -> LoadedModel:
        """Swap in the model of that name; requests in flight finish on the one they have."""
        return await to_thread.run_sync(self._models.reload, name, limiter=self._reloads)
