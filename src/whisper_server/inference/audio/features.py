"""faster-whisper's log-mel features, computed in blocks: the same numbers in a few megabytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

from whisper_server.inference.audio.waveform import Samples, Waveform

# 30 s, Whisper's window: the spectrum of a block takes a few megabytes.
_FRAMES = 3000
# A window lies in at most two blocks; up to ten minutes (19 to 31 MB) are kept, and computed again beyond.
_FEW_BLOCKS = 2
_MANY_BLOCKS = 20


class BlockwiseFeatureExtractor(FeatureExtractor):  # type: ignore[misc]
    def __call__(self, waveform: Waveform, padding: int = 160, chunk_length: int | None = None) -> Samples:
        """Return log-mel features of shape (mels, frames), 10 ms per frame; `padding` is in samples of silence."""
        if chunk_length is not None:
            raise ValueError("chunk_length would change the windows of every request")
        blocks = FeatureBlocks(self, waveform, padding)
        return blocks.read(0, blocks.frames)

    def log_mel(self, samples: Samples) -> Samples:
        """Return the logarithms before they are scaled to the loudest sound of the file."""
        window = np.hanning(self.n_fft + 1)[:-1].astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft)[:: self.hop_length]
        spectrum = np.fft.rfft(frames * window, axis=-1).astype(np.complex64)
        mels = self.mel_filters @ (np.abs(spectrum.T) ** 2)
        log_mels: Samples = np.log10(np.clip(mels, 1e-10, None))
        return log_mels


class FeatureBlocks:
    """The features of a waveform in blocks of 30 s; the last is longer, as NumPy rounds narrow matrices differently.

    Belongs to one thread. `check` is called for every block that is computed, and may raise.
    """

    def __init__(
        self,
        extractor: BlockwiseFeatureExtractor,
        waveform: Waveform,
        padding: int = 160,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.mels: int = extractor.mel_filters.shape[0]
        self.frames: int = (len(waveform) + padding) // extractor.hop_length
        self._extractor = extractor
        self._waveform = waveform
        self._padding = padding
        self._check = check
        self._count = max(1, self.frames // _FRAMES)
        self._kept: OrderedDict[int, Samples] = OrderedDict()
        self._capacity = self._count if self._count <= _MANY_BLOCKS else _FEW_BLOCKS
        # The features are scaled to the loudest sound of the whole file.
        self._floor = np.float32(max(self._block(number).max() for number in range(self._count)) - np.float32(8))

    def read(self, start: int, stop: int) -> Samples:
        """Return some frames, shape (mels, stop - start)."""
        features = np.empty((self.mels, stop - start), np.float32)
        for number in range(self._count):
            first, last = self._range(number)
            begin, end = max(first, start), min(last, stop)
            if begin < end:
                features[:, begin - start : end - start] = self._block(number)[:, begin - first : end - first]
        np.maximum(features, self._floor, out=features)
        features += 4.0
        features /= 4.0
        return features

    def _range(self, number: int) -> tuple[int, int]:
        return number * _FRAMES, self.frames if number == self._count - 1 else (number + 1) * _FRAMES

    def _block(self, number: int) -> Samples:
        if number not in self._kept:
            self._kept[number] = self._compute(number)
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return self._kept[number]

    def _compute(self, number: int) -> Samples:
        self._check()
        extractor = self._extractor
        start, stop = self._range(number)
        first, last = start * extractor.hop_length, (stop - 1) * extractor.hop_length + extractor.n_fft
        return extractor.log_mel(_reflected(self._waveform, self._padding, extractor.n_fft // 2, first, last))


class LazyFeatures:
    """What faster-whisper's `transcribe()` takes for the features of a file: they are computed when it slices them.

    `features[..., start:stop]` is an array if it has at most 30 s, and otherwise again such an object. `on_window` gets
    the frame at which each window begins that is decoded, which `transcribe()` slices with a colon, not an ellipsis.
    """

    def __init__(
        self, blocks: FeatureBlocks, on_window: Callable[[int], None], start: int = 0, stop: int | None = None
    ) -> None:
        self._blocks = blocks
        self._on_window = on_window
        self._start = start
        self.shape = (blocks.mels, (blocks.frames if stop is None else stop) - start)

    def __getitem__(self, key: tuple[Any, slice]) -> Samples | LazyFeatures:
        start, stop, _ = key[1].indices(self.shape[1])
        if key[0] == slice(None):
            self._on_window(start)
        start, stop = self._start + start, self._start + max(start, stop)
        if stop - start <= _FRAMES:
            return self._blocks.read(start, stop)
        return LazyFeatures(self._blocks, self._on_window, start, stop)


def _reflected(waveform: Waveform, zeros: int, margin: int, first: int, last: int) -> Samples:
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


def _zero_padded(waveform: Waveform, start: int, stop: int) -> Samples:
    samples = waveform[start:stop]
    return np.pad(samples, (0, stop - start - len(samples)))
