"""How many replicas a deployment wants: as many as its audio and its open requests ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

AUDIO = "audio_seconds"


class Situation(Protocol):
    """What of Ray Serve's AutoscalingContext is looked at."""

    total_num_requests: float
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


class QueuedAudio:
    """A policy for Ray Serve: a replica for each `audio_seconds` of audio that is here, or `requests` that are open.

    Bounds, delays and the way from nothing to one replica are Serve's own, as its configuration has them.
    """

    def __init__(self, *, audio_seconds: float = 300.0, requests: float = 8.0) -> None:
        self._audio_seconds = audio_seconds
        self._requests = requests

    def __call__(self, situation: Situation) -> tuple[float, dict[str, Any]]:
        audio = sum(((situation.aggregated_metrics or {}).get(AUDIO) or {}).values())
        wanted = max(audio / self._audio_seconds, situation.total_num_requests / self._requests)
        return math.ceil(wanted), {}
