from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from process import forget_peak, memory

from whisper_server.inference.audio.features import ChunkedFeatureExtractor

LENGTHS = (0, 1, 159, 160, 161, 239, 240, 241, 399, 400, 401, 16_000, 479_839, 480_000, 480_160, 960_001, 1_500_123)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_features_equal_those_of_faster_whisper(length: int, mels: int) -> None:
    waveform = (np.random.default_rng(length).standard_normal(length) * 0.1).astype(np.float32)
    expected = FeatureExtractor(feature_size=mels)(waveform)
    # Equal to the bit where the BLAS library computes a row of a product independently of the number of rows.
    np.testing.assert_allclose(ChunkedFeatureExtractor(feature_size=mels)(waveform), expected, rtol=0, atol=1e-5)


@pytest.mark.measure
def test_memory_is_little_more_than_the_features() -> None:
    """An hour of audio: 230 MB of samples, 115 MB of features."""
    waveform = np.zeros(3600 * 16_000, np.float32)
    waveform[::3] = 0.25
    extract = ChunkedFeatureExtractor()
    extract(waveform[:480_000])
    forget_peak()
    before = memory("VmRSS")
    features = extract(waveform)
    assert memory("VmHWM") - before < features.nbytes + 50_000_000


def test_another_chunk_length_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk_length"):
        ChunkedFeatureExtractor()(np.zeros(16_000, np.float32), chunk_length=20)
