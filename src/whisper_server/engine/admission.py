"""Admission control: how much work the server accepts before it answers 503."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from whisper_server.core.errors import Overloaded
from whisper_server.inference.request_context import RequestContext

_RETRY_AFTER = 5


class Admission:
    """Counts the requests whose upload is complete, and their audio."""

    def __init__(self, *, max_requests: int, max_audio_seconds: float) -> None:
        self._max_requests = max_requests
        self._max_audio_seconds = max_audio_seconds
        self._lock = Lock()
        self._audio: dict[RequestContext, float] = {}

    @property
    def audio_seconds(self) -> float:
        """The audio of all admitted requests, in seconds."""
        with self._lock:
            return sum(self._audio.values())

    def check_room(self) -> None:
        """Raise Overloaded if no further request would be admitted now: call it before reading an upload."""
        if len(self._audio) >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are in progress", _RETRY_AFTER)

    @contextmanager
    def admit(self) -> Iterator[RequestContext]:
        """Admit a request whose upload is complete and yield its context, which is cancelled at the end of the block.

        Raises Overloaded.
        """
        context = RequestContext()
        with self._lock:
            self.check_room()
            self._audio[context] = 0.0
        try:
            yield context
        finally:
            context.cancel()
            with self._lock:
                del self._audio[context]

    def set_audio(self, context: RequestContext, seconds: float) -> None:
        """Count the audio of an admitted request, of which so much is decoded.

        Raises Overloaded, but never for the only request that has audio.
        """
        with self._lock:
            others = sum(self._audio.values()) - self._audio.get(context, 0.0)
            if others and others + seconds > self._max_audio_seconds:
                raise Overloaded(f"{others:.0f} seconds of audio wait already", _RETRY_AFTER)
            if context in self._audio:
                self._audio[context] = seconds
