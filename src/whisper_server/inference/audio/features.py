"""faster-whisper's log-mel features, in pieces: the same numbers without gigabytes of intermediates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

Samples = NDArray[np.float32]

# A piece is a window's worth of frames, whose spectrum takes a few megabytes.
_FRAMES = 3000


class PiecewiseFeatureExtractor(FeatureExtractor):  # type: ignore[misc]
    def __call__(self, waveform: Samples, padding: int = 160, chunk_length: int | None = None) -> Samples:
        """Return log-mel features, shape (mels, frames), a frame being 10 ms; `padding` is in samples of silence."""
        if chunk_length is not None:
            raise ValueError("chunk_length would change the windows of every request")
        frames = (len(waveform) + padding) // self.hop_length
        features = np.empty((self.mel_filters.shape[0], frames), np.float32)
        for start, stop in _pieces(frames):
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


def _pieces(frames: int) -> Iterator[tuple[int, int]]:
    """The last piece takes the rest with it: matrices of few columns are multiplied in another order of additions."""
    count = max(1, frames // _FRAMES)
    starts = [i * _FRAMES for i in range(count)]
    return zip(starts, [*starts[1:], frames], strict=True)


def _reflected(waveform: Samples, zeros: int, margin: int, first: int, last: int) -> Samples:
    """Samples first to last of the waveform, zeros after it and then, at both ends, its reflection (`numpy.pad`)."""
    length = len(waveform) + zeros
    if length <= 2 * margin:
        return np.pad(_followed_by_zeros(waveform, 0, length), margin, mode="reflect")[first:last]
    start, stop = first - margin, last - margin
    before, after = max(0, -start), max(0, stop - length)
    return np.concatenate(
        [
            _followed_by_zeros(waveform, 1, before + 1)[::-1],
            _followed_by_zeros(waveform, max(0, start), min(stop, length)),
            _followed_by_zeros(waveform, length - 1 - after, length - 1)[::-1],
        ]
    )


def _followed_by_zeros(waveform: Samples, start: int, stop: int) -> Samples:
    piece = waveform[start:stop]
    return np.pad(piece, (0, stop - start - len(piece)))
