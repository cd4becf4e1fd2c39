"""Progress of `WhisperModel.transcribe()`, read from which features it slices: it has no callback of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from faster_whisper import WhisperModel

# Gets the fraction of the audio that is done, from 0 to 1; called in any of the request's threads.
OnProgress: TypeAlias = Callable[[float], None]


def ignore_progress(fraction: float) -> None:
    pass


def report_progress(whisper: WhisperModel, on_progress: OnProgress) -> None:
    """Call `on_progress` at the start of each window that this request's model decodes."""
    if on_progress is not ignore_progress:
        whisper.feature_extractor = _ObservedExtractor(whisper.feature_extractor, on_progress)


class _ObservedExtractor:
    """A feature extractor that returns observed features."""

    def __init__(self, extractor: Any, on_progress: OnProgress) -> None:
        self._extractor = extractor
        self._on_progress = on_progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> _ObservedFeatures:
        features: _ObservedFeatures = self._extractor(*args, **kwargs).view(_ObservedFeatures)
        features.on_progress = self._on_progress
        return features


class _ObservedFeatures(np.ndarray[Any, np.dtype[np.float32]]):
    """Shape (mels, frames). `transcribe()` takes a window as `[:, seek : seek + length]`; others use an ellipsis."""

    on_progress: OnProgress

    def __getitem__(self, key: Any) -> Any:
        plain = self.view(np.ndarray)
        if isinstance(key, tuple) and key[0] == slice(None) and isinstance(key[1], slice):
            self.on_progress(min(1.0, (key[1].start or 0) / max(1, self.shape[1])))
        return plain[key]
