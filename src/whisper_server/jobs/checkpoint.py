"""What a run of a job stores as it goes, so that the next run can resume it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from whisper_server.core.errors import WhisperServerError
from whisper_server.inference.transcription.segments import Segment
from whisper_server.jobs.job import Lease
from whisper_server.jobs.storage.leases import Leases


class Checkpoint:
    """The Journal of one run, its progress and its segments; called from its threads.

    Everything is durable when the methods return. After the first write that fails, all methods raise its error
    (LeaseLost or JobsUnavailable), which ends the run.
    """

    def __init__(self, leases: Leases, lease: Lease, seconds: float, *, clock: Callable[[], float] = time.monotonic):
        self._leases = leases
        self._lease = lease
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._failure: WhisperServerError | None = None
        self._answers = leases.answers(lease)
        self._reported_before = lease.job.segments
        self._segment_count = 0
        self._unreported: list[dict[str, Any]] = []
        # The speed is measured from the first answer that the model has to compute.
        self._computing_since: float | None = None
        self._resumed_at = lease.job.seconds_done
        self._seconds_done = lease.job.seconds_done

    def find(self, *keys: str) -> bytes | None:
        with self._unless_failed():
            answer = next((self._answers[key] for key in keys if key in self._answers), None)
            if answer is None and self._computing_since is None:
                self._computing_since = self._clock()
            return answer

    def record(self, key: str, answer: bytes) -> None:
        with self._unless_failed():
            self._leases.record(self._lease, key, answer)

    def segment(self, segment: Segment) -> None:
        """Keep a segment for the next `progress`, unless an earlier run has reported it."""
        with self._lock:
            number, self._segment_count = self._segment_count, self._segment_count + 1
            if number >= self._reported_before:
                self._unreported.append(segment_facts(number, segment))

    def progress(self, fraction: float) -> None:
        """Store the progress and the new segments, unless an earlier run was further."""
        with self._unless_failed(), self._lock:
            seconds = fraction * self._seconds
            if seconds <= self._seconds_done and not self._unreported:
                return
            self._seconds_done = max(self._seconds_done, seconds)
            segments, self._unreported = self._unreported, []
            self._leases.advance(self._lease, segments, seconds=self._seconds_done, speed=self._speed())

    def unreported_segments(self) -> list[dict[str, Any]]:
        """Return the segments that came after the last `progress`."""
        return self._unreported

    def _speed(self) -> float | None:
        if self._computing_since is None or self._seconds_done <= self._resumed_at:
            return None
        return (self._seconds_done - self._resumed_at) / max(1e-3, self._clock() - self._computing_since)

    @contextmanager
    def _unless_failed(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except WhisperServerError as exc:
            self._failure = exc
            raise


def segment_facts(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment as `job.segment` events have it."""
    return {"id": number, "start": segment.start, "end": segment.end, "text": segment.text}
