from __future__ import annotations

from random import Random

import numpy as np

from whisper_server.live.sample_buffer import SampleBuffer


def test_samples_are_found_by_their_place_whatever_was_forgotten() -> None:
    samples = np.arange(200_000, dtype=np.float32)
    buffer, random, at, forgotten = SampleBuffer(), Random(1), 0, 0
    while at < len(samples):
        length = random.randint(1, 5000)
        buffer.append(samples[at : at + length])
        at += length
        forgotten = max(forgotten, buffer.end - random.randint(0, 20_000))
        buffer.forget(forgotten)
        start = random.randint(forgotten, buffer.end)
        assert (buffer.between(start, buffer.end) == samples[start : buffer.end]).all()
    assert buffer.end == len(samples)


def test_what_is_forgotten_takes_no_memory() -> None:
    buffer = SampleBuffer()
    for _ in range(600):
        buffer.append(np.zeros(16_000, np.float32))
        buffer.forget(buffer.end - 16_000)
    assert buffer.kept <= 48_000


def test_what_is_returned_is_a_copy() -> None:
    buffer = SampleBuffer()
    buffer.append(np.ones(10, np.float32))
    buffer.between(0, 10)[:] = 5
    assert buffer.between(0, 10).max() == 1
