"""faster-whisper's log-mel features, computed in chunks: the same numbers without gigabytes of intermediate arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

Samples = NDArray[np.float32]

# 30 s per chunk, whose spectrum takes a few megabytes.
_FRAMES = 3000


class ChunkedFeatureExtractor(FeatureExtractor):  # type: ignore[misc]
    def __call__(self, waveform: Samples, padding: int = 160, chunk_length: int | None = None) -> Samples:
        """Return log-mel features of shape (mels, frames), 10 ms per frame; `padding` is in samples of silence."""
        if chunk_length is not None:
            raise ValueError("chunk_length would change the windows of every request")
        frames = (len(waveform) + padding) // self.hop_length
        features = np.empty((self.mel_filters.shape[0], frames), np.float32)
        for start, stop in _chunks(frames):
            first, last = start * self.hop_length, (stop - 1) * self.hop_length + self.n_fft
            features[:, start:stop] = self._log_mel(_reflected(waveform, padding, self.n_fft // 2, first, last))
        np.maximum(features, features.max() - 8.0, out=features)
        features += 4.0
        features /= 4.0
        return features

    def _log_mel(self, samples: Samples) -> Samples:
        window = np.hanning(self.n_fft + 1)[:-1].astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft)[:: self.hop_length]
        spectrum = np.fft.rfft(frames * window, axis=-1).astype(np.complex64)
        mels = self.mel_filters @ (np.abs(spectrum.T) ** 2)
        log_mels: Samples = np.log10(np.clip(mels, 1e-10, None))
        return log_mels


def _chunks(frames: int) -> Iterator[tuple[int, int]]:
    """Return the frames (start, stop) per chunk; the last is longer, as NumPy rounds narrow matrices differently."""
    count = max(1, frames // _FRAMES)
    starts = [i * _FRAMES for i in range(count)]
    return zip(starts, [*starts[1:], frames], strict=True)


def _reflected(waveform: Samples, zeros: int, margin: int, first: int, last: int) -> Samples:
    """Return samples first to last of the zero-padded waveform with `margin` reflected samples at both ends.

    The same as `numpy.pad` of the whole waveform with mode "reflect", of which only this part is computed.
    """
    length = len(waveform) + zeros
    if length <= 2 * margin:
        return np.pad(_zero_padded(waveform, 0, length), margin, mode="reflect")[first:last]
    start, stop = first - margin, last - margin
    before, after = max(0, -start), max(0, stop - length)
    return np.concatenate(
        [
            _zero_padded(waveform, 1, before + 1)[::-1],
            _zero_padded(waveform, max(0, start), min(stop, length)),
            _zero_padded(waveform, length - 1 - after, length - 1)[::-1],
        ]
    )


def _zero_padded(waveform: Samples, start: int, stop: int) -> Samples:
    samples = waveform[start:stop]
    return np.pad(samples, (0, stop - start - len(samples)))
