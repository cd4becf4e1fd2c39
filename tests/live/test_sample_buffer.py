from __future__ import annotations

from random import Random

import numpy as np

from whisper_server.live.sample_buffer import SampleBuffer


def test_positions_stay_valid_when_samples_are_discarded() -> None:
    samples = np.arange(200_000, dtype=np.float32)
    buffer, random, at, discarded = SampleBuffer(), Random(1), 0, 0
    while at < len(samples):
        length = random.randint(1, 5000)
        buffer.append(samples[at : at + length])
        at += length
        discarded = max(discarded, buffer.end - random.randint(0, 20_000))
        buffer.discard_before(discarded)
        start = random.randint(discarded, buffer.end)
        assert (buffer.between(start, buffer.end) == samples[start : buffer.end]).all()
    assert buffer.end == len(samples)


def test_discarded_samples_take_no_memory() -> None:
    buffer = SampleBuffer()
    for _ in range(600):
        buffer.append(np.zeros(16_000, np.float32))
        buffer.discard_before(buffer.end - 16_000)
    assert len(buffer) <= 48_000


def test_between_returns_a_copy() -> None:
    buffer = SampleBuffer()
    buffer.append(np.ones(10, np.float32))
    buffer.between(0, 10)[:] = 5
    assert buffer.between(0, 10).max() == 1
