from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from whisper_server.cluster.scaling import AUDIO, QueuedAudio


@dataclass
class Context:
    total_num_requests: float = 0.0
    aggregated_metrics: Mapping[str, Mapping[str, float]] | None = field(default_factory=dict)


@pytest.mark.parametrize(
    ("context", "replicas"),
    [
        (Context(), 0),
        (Context(aggregated_metrics=None), 0),
        (Context(1.0), 1),
        (Context(9.0), 2),
        (Context(2.0, {AUDIO: {"a": 300.0, "b": 301.0}}), 3),
        (Context(2.0, {AUDIO: {"a": 0.0}}), 1),
    ],
)
def test_replicas_follow_audio_or_requests_whichever_is_more(context: Context, replicas: int) -> None:
    assert QueuedAudio(audio_seconds=300, requests=8)(context) == (replicas, {})
