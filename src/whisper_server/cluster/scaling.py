"""How many replicas a deployment needs for its queued audio and its open requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

AUDIO = "audio_seconds"


class ScalingContext(Protocol):
    """The fields of Ray Serve's AutoscalingContext that the policy reads."""

    total_num_requests: float
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


@dataclass(frozen=True, kw_only=True)
class QueuedAudio:
    """An autoscaling policy for Ray Serve: a replica for each `audio_seconds` of unfinished audio, or for each
    `requests` open requests, whichever is more.

    Ray Serve itself applies minimum, maximum, delays and scaling from zero, as its configuration says.
    """

    audio_seconds: float = 300.0
    requests: float = 8.0

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        audio = sum(((context.aggregated_metrics or {}).get(AUDIO) or {}).values())
        return math.ceil(max(audio / self.audio_seconds, context.total_num_requests / self.requests)), {}
