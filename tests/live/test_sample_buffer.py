from __future__ import annotations

from random import Random

import numpy as np

from whisper_server.live.sample_buffer import Recording


def test_samples_are_found_by_their_place_whatever_was_forgotten() -> None:
    samples = np.arange(200_000, dtype=np.float32)
    recording, random, at, forgotten = Recording(), Random(1), 0, 0
    while at < len(samples):
        length = random.randint(1, 5000)
        recording.append(samples[at : at + length])
        at += length
        forgotten = max(forgotten, recording.end - random.randint(0, 20_000))
        recording.forget(forgotten)
        start = random.randint(forgotten, recording.end)
        assert (recording.between(start, recording.end) == samples[start : recording.end]).all()
    assert recording.end == len(samples)


def test_what_is_forgotten_takes_no_memory() -> None:
    recording = Recording()
    for _ in range(600):
        recording.append(np.zeros(16_000, np.float32))
        recording.forget(recording.end - 16_000)
    assert recording.kept <= 48_000


def test_what_is_returned_is_a_copy() -> None:
    recording = Recording()
    recording.append(np.ones(10, np.float32))
    recording.between(0, 10)[:] = 5
    assert recording.between(0, 10).max() == 1
