from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_server.core.errors import Cancelled, UploadNotStored
from whisper_server.inference.audio.waveform import SAMPLE_RATE, JoinedParts, SpooledWaveform

MINUTE = 60 * SAMPLE_RATE


@pytest.fixture(params=[1, 11], ids=["in memory", "in a file"])
def waveform(request: pytest.FixtureRequest) -> Iterator[SpooledWaveform]:
    """Minutes of samples, of which each has its second as its value."""
    with SpooledWaveform() as waveform:
        for second in range(60 * request.param):
            waveform.append(np.full(SAMPLE_RATE, second, np.int16))
        yield waveform


def test_parts_are_read_as_of_an_array(waveform: SpooledWaveform) -> None:
    assert waveform.seconds in (60, 660)
    whole = waveform[:]
    assert whole.dtype == np.float32 and len(whole) == len(waveform)
    for part in (slice(5), slice(SAMPLE_RATE - 1, SAMPLE_RATE + 1), slice(-3, None), slice(9, 4), slice(10**9, None)):
        np.testing.assert_array_equal(waveform[part], whole[part])
    assert waveform[SAMPLE_RATE : SAMPLE_RATE + 1] == 1 / 32768


def test_a_closed_waveform_cancels_its_reader(waveform: SpooledWaveform) -> None:
    waveform.close()
    waveform.close()
    with pytest.raises(Cancelled):
        waveform[:5]


def test_a_waveform_that_nobody_closes_leaves_no_file() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    waveform = SpooledWaveform()
    waveform.append(np.zeros(11 * MINUTE, np.int16))
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1
    del waveform
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_temporary_directory_that_cannot_be_used_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with SpooledWaveform() as waveform, pytest.raises(UploadNotStored, match="No such file"):
        waveform.append(np.zeros(11 * MINUTE, np.int16))


@given(cuts=st.lists(st.integers(0, 50), max_size=8), start=st.integers(-60, 60), stop=st.integers(-60, 60))
def test_joined_parts_equal_a_concatenation(cuts: list[int], start: int, stop: int) -> None:
    audio = np.arange(50, dtype=np.float32)
    positions = sorted(cuts)
    parts = list(zip(positions[::2], positions[1::2], strict=False))
    joined = JoinedParts(audio, parts)
    expected = np.concatenate([audio[:0], *(audio[first:last] for first, last in parts)])
    assert len(joined) == len(expected)
    np.testing.assert_array_equal(joined[start:stop], expected[start:stop])
    np.testing.assert_array_equal(joined[:], expected)
