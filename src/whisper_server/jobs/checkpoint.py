"""What a run of a job leaves behind at every step, so that the next one goes on from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from whisper_server.core.errors import WhisperServerError
from whisper_server.inference.transcription.segments import Segment
from whisper_server.jobs.job import Lease
from whisper_server.jobs.storage.leases import Leases


class Checkpoint:
    """The journal, the progress and the segments of one run; called from its threads.

    What it has taken is on the disk. Once something could not be written it takes nothing any more, so the run stops
    at its next step: raises LeaseLost or JobsUnavailable.
    """

    def __init__(self, leases: Leases, lease: Lease, seconds: float, *, clock: Callable[[], float] = time.monotonic):
        self._leases = leases
        self._lease = lease
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._failure: WhisperServerError | None = None
        self._known = leases.answers(lease)
        self._told = leases.segments(lease)
        self._segments = 0
        self._untold: list[dict[str, Any]] = []
        # The present run's speed is that from its first new answer on.
        self._begun_at: float | None = None
        self._begun_with = lease.job.seconds_done
        self._done = lease.job.seconds_done

    def find(self, *keys: str) -> bytes | None:
        self._check()
        answer = next((self._known[key] for key in keys if key in self._known), None)
        if answer is None:
            self._begin()
        return answer

    def record(self, key: str, answer: bytes) -> None:
        self._check()
        self._written(lambda: self._leases.record(self._lease, key, answer))

    def segment(self, segment: Segment) -> None:
        """Keep a segment for the next step, unless an earlier run has told it."""
        with self._lock:
            number, self._segments = self._segments, self._segments + 1
            if number >= self._told:
                self._untold.append(told(number, segment))

    def progress(self, fraction: float) -> None:
        """Write down how far the run has come, and its segments, unless an earlier run was there."""
        self._check()
        with self._lock:
            seconds = fraction * self._seconds
            if seconds <= self._done and not self._untold:
                return
            self._done = max(self._done, seconds)
            untold, self._untold = self._untold, []
            speed = self._speed()
            done = self._done
            self._written(lambda: self._leases.advance(self._lease, untold, seconds=done, speed=speed))

    def rest(self) -> list[dict[str, Any]]:
        """The segments that are still to be told."""
        return self._untold

    def _speed(self) -> float | None:
        if self._begun_at is None or self._done <= self._begun_with:
            return None
        return (self._done - self._begun_with) / max(1e-3, self._clock() - self._begun_at)

    def _begin(self) -> None:
        if self._begun_at is None:
            self._begun_at = self._clock()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _written(self, write: Callable[[], None]) -> None:
        try:
            write()
        except WhisperServerError as exc:
            self._failure = exc
            raise


def told(number: int, segment: Segment) -> dict[str, Any]:
    """A segment as events have it."""
    return {"id": number, "start": float(segment.start), "end": float(segment.end), "text": segment.text}
