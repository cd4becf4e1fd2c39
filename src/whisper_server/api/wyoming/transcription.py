"""Transcriptions of all connections, with the limits, priorities, log lines and metrics of requests over HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from anyio import get_cancelled_exc_class
from starlette.requests import ClientDisconnect

from whisper_server.api.metrics import Metrics
from whisper_server.api.requests.options import run_options
from whisper_server.api.wyoming.event_stream import EventStream
from whisper_server.api.wyoming.received_audio import ReceivedAudio
from whisper_server.api.wyoming.transcribe_options import TranscribeOptions
from whisper_server.api.wyoming.transcript_events import TranscriptEvents
from whisper_server.core.errors import EngineFailed, WhisperServerError
from whisper_server.core.logs import request_id
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.engine.transcriber import Transcriber

logger = logging.getLogger(__name__)

_CLIENT_DISCONNECTED = 499
_METHOD, _ROUTE = "WYOMING", "transcribe"
_LINE = "%(method)s %(path)s %(status)d in %(seconds).3f s, %(bytes_in)d bytes in"


class TranscriptionRunner:
    def __init__(self, transcriber: Transcriber, models: ModelAdmin, metrics: Metrics, settings: Settings) -> None:
        self.models = models
        self._transcriber = transcriber
        self._metrics = metrics
        self._settings = settings

    def check(self, options: TranscribeOptions) -> None:
        """Raise ModelNotFound or BadOption if a transcription would fail, as far as that is known already."""
        self._transcriber.check_session(options.model, options.language)

    def accept(self) -> ReceivedAudio:
        """Return where to collect the audio of an utterance; raises Overloaded while the server is full."""
        self._transcriber.admission.check_room()
        self.models.preload()
        return ReceivedAudio(max_seconds=self._settings.max_audio_seconds)

    async def run(self, audio: ReceivedAudio, options: TranscribeOptions, stream: EventStream) -> None:
        """Transcribe the audio, which is closed then, and send the transcript.

        Raises ClientDisconnect and what `Transcriber.transcribe()` raises; unexpected errors become EngineFailed.
        """
        with self._recorded(audio):
            events = TranscriptEvents(stream, options.language)
            run = run_options({"model": options.model}, self._settings)
            with await audio.finish() as waveform, self._transcriber.admission.admit() as context:
                transcript = await self._transcriber.transcribe_received(
                    context, waveform, options.decoding, run, on_segment=events.segment
                )
            await events.end(transcript)

    @contextmanager
    def _recorded(self, audio: ReceivedAudio) -> Iterator[None]:
        """Give the transcription an id, a log line and its place in the metrics."""
        started = time.monotonic()
        status = 200
        failure: type[Exception] | None = None
        token = request_id.set(uuid4().hex)
        self._metrics.in_progress.inc()
        try:
            yield
        except (ClientDisconnect, get_cancelled_exc_class()):
            status, failure = _CLIENT_DISCONNECTED, ClientDisconnect
            raise
        except WhisperServerError as exc:
            status, failure = exc.status, type(exc)
            logger.log(exc.log_level, "%s: %s", _ROUTE, exc)
            raise
        except Exception as exc:
            status, failure = EngineFailed.status, type(exc)
            logger.exception("%s failed", _ROUTE)
            raise EngineFailed("internal server error") from exc
        finally:
            seconds = time.monotonic() - started
            self._metrics.in_progress.dec()
            self._metrics.finished(_METHOD, _ROUTE, status, seconds, failure)
            _log(status, seconds, audio.bytes_received)
            request_id.reset(token)


def _log(status: int, seconds: float, bytes_in: int) -> None:
    facts: Mapping[str, object] = {
        "method": _METHOD,
        "path": _ROUTE,
        "status": status,
        "seconds": round(seconds, 3),
        "bytes_in": bytes_in,
    }
    logger.info(_LINE, facts, extra=facts)
