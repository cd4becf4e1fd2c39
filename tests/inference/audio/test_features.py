from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from process import forget_peak, memory

from whisper_server.core.errors import Cancelled
from whisper_server.inference.audio.features import BlockwiseFeatureExtractor, FeatureBlocks, LazyFeatures
from whisper_server.inference.request_context import RequestContext

LENGTHS = (0, 1, 159, 160, 161, 239, 240, 241, 399, 400, 401, 16_000, 479_839, 480_000, 480_160, 960_001, 1_500_123)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_features_equal_those_of_faster_whisper(length: int, mels: int) -> None:
    waveform = (np.random.default_rng(length).standard_normal(length) * 0.1).astype(np.float32)
    expected = FeatureExtractor(feature_size=mels)(waveform)
    # Equal to the bit where the BLAS library computes a row of a product independently of the number of rows.
    np.testing.assert_allclose(BlockwiseFeatureExtractor(feature_size=mels)(waveform), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("minutes", [1, 12], ids=["kept", "computed again"])
def test_windows_equal_those_of_all_features(minutes: int) -> None:
    """As `transcribe()` reads them: forward, a window again after a fallback, and the last, which is short."""
    waveform = (np.random.default_rng(0).standard_normal(minutes * 960_000 + 123_456) * 0.1).astype(np.float32)
    extract = BlockwiseFeatureExtractor()
    expected, windows = extract(waveform), list[int]()
    features = LazyFeatures(FeatureBlocks(extract, waveform), windows.append)
    assert features.shape == expected.shape
    starts = [0, 2980, 2980, 5500, expected.shape[1] - 3100, expected.shape[1] - 101]
    for start in starts:
        np.testing.assert_array_equal(features[:, start : start + 3000], expected[:, start : start + 3000])
    assert windows == starts


def test_long_parts_are_lazy_too() -> None:
    """The detection of the language reads a part of a part, with an ellipsis."""
    waveform = (np.random.default_rng(0).standard_normal(100 * 16_000) * 0.1).astype(np.float32)
    extract = BlockwiseFeatureExtractor()
    expected = extract(waveform)
    features = LazyFeatures(FeatureBlocks(extract, waveform), lambda frame: pytest.fail("no window is decoded"))
    part = features[..., 500:]
    assert isinstance(part, LazyFeatures) and part.shape == expected[..., 500:].shape
    np.testing.assert_array_equal(part[..., 3000:6000], expected[..., 3500:6500])
    np.testing.assert_array_equal(part[..., 9000:], expected[..., 9500:])
    assert features[..., 99_999:].shape == (80, 0)


def test_a_cancelled_request_computes_no_features() -> None:
    context = RequestContext()
    context.cancel()
    with pytest.raises(Cancelled):
        FeatureBlocks(BlockwiseFeatureExtractor(), np.zeros(16_000, np.float32), check=context.check)


@pytest.mark.measure
def test_the_memory_does_not_grow_with_the_audio() -> None:
    """Four hours of zeros, as one value that is repeated: 460 MB of features."""
    waveform = np.broadcast_to(np.float32(0), 4 * 3600 * 16_000)
    extract = BlockwiseFeatureExtractor()
    extract(waveform[:480_000])
    forget_peak()
    before = memory("VmRSS")
    features = LazyFeatures(FeatureBlocks(extract, waveform), lambda frame: None)
    for start in range(0, features.shape[1], 300_000):
        assert features[:, start : start + 3000].shape == (80, min(3000, features.shape[1] - start))
    assert memory("VmHWM") - before < 40_000_000


def test_another_chunk_length_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk_length"):
        BlockwiseFeatureExtractor()(np.zeros(16_000, np.float32), chunk_length=20)
