from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from whisper_server.cluster.scaling import AUDIO, QueuedAudio


@dataclass
class Now:
    total_num_requests: float = 0.0
    aggregated_metrics: Mapping[str, Mapping[str, float]] | None = field(default_factory=dict)


@pytest.mark.parametrize(
    ("now", "replicas"),
    [
        (Now(), 0),
        (Now(aggregated_metrics=None), 0),
        (Now(1.0), 1),
        (Now(9.0), 2),
        (Now(2.0, {AUDIO: {"a": 300.0, "b": 301.0}}), 3),
        (Now(2.0, {AUDIO: {"a": 0.0}}), 1),
    ],
)
def test_as_many_as_audio_and_requests_ask_for(now: Now, replicas: int) -> None:
    assert QueuedAudio(audio_seconds=300, requests=8)(now) == (replicas, {})
