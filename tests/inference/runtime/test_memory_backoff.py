from __future__ import annotations

import pytest

from whisper_server.inference.runtime.memory_backoff import (
    SUCCESSES_BEFORE_UPGRADE,
    MemoryBackoff,
    is_out_of_memory,
)


def test_a_failed_batch_halves_the_limit() -> None:
    backoff = MemoryBackoff(max_batch_size=8)
    sizes = []
    for failed in (8, 4, 3, 1):
        backoff.lower_batch_size(failed)
        sizes.append(backoff.max_batch_size)
    assert sizes == [4, 2, 2, 1], "a batch of 3 was formed before the limit was 2"
    assert backoff.steps == {"batch": 3}
    assert backoff.limited


def test_a_failed_search_halves_the_limit_on_beams() -> None:
    backoff = MemoryBackoff(max_batch_size=1)
    sizes = []
    for failed in (5, 5, 2, 1):
        backoff.lower_beam_size(failed)
        sizes.append(backoff.max_beam_size)
    assert sizes == [2, 2, 1, 1]
    assert backoff.steps == {"beam": 3}
    assert backoff.limited


def test_limits_are_doubled_up_to_those_of_the_start_beams_first() -> None:
    backoff = MemoryBackoff(max_batch_size=6)
    assert not backoff.limited
    backoff.lower_batch_size(6)
    backoff.lower_beam_size(32)
    limits: list[tuple[int, int]] = []
    while backoff.limited:
        backoff.relax()
        limits.append((backoff.max_beam_size, backoff.max_batch_size))
    assert limits == [(32, 3), (64, 3), (64, 6)]
    backoff.relax()
    assert (backoff.max_beam_size, backoff.max_batch_size) == (64, 6)


def test_smaller_weights_lift_the_limit_on_beams() -> None:
    backoff = MemoryBackoff(max_batch_size=4)
    backoff.lower_batch_size(4)
    backoff.lower_beam_size(5)
    backoff.record_fallback("compute_type", "the model is on cuda:0, int8, from now on")
    assert (backoff.max_beam_size, backoff.max_batch_size) == (64, 2)
    backoff.record_upgrade("cuda:0, float16")
    assert backoff.steps == {"batch": 1, "beam": 1, "compute_type": 1, "regained": 1}


def test_an_upgrade_is_tried_after_successes_in_a_row() -> None:
    backoff = MemoryBackoff(max_batch_size=4)
    rows = [[backoff.record_success() for _ in range(SUCCESSES_BEFORE_UPGRADE)] for _ in range(2)]
    assert rows == [[False] * (SUCCESSES_BEFORE_UPGRADE - 1) + [True]] * 2
    for _ in range(SUCCESSES_BEFORE_UPGRADE - 1):
        assert not backoff.record_success()
    backoff.lower_batch_size(4)
    assert not backoff.record_success(), "the failure begins a new row"


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA failed with error out of memory"), True),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mkl_malloc: Failed to allocate memory"), True),
        (RuntimeError("an illegal memory access was encountered"), False),
        (ValueError("out of range"), False),
    ],
)
def test_errors_of_memory(exc: Exception, expected: bool) -> None:
    assert is_out_of_memory(exc) is expected
