"""How far `transcribe()` has come: what it takes of the features tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from faster_whisper import WhisperModel

# Told which part of the audio is done, from 0 to 1; from any of the request's threads.
OnProgress: TypeAlias = Callable[[float], None]


def unwatched(fraction: float) -> None:
    pass


def follow(whisper: WhisperModel, on_progress: OnProgress) -> None:
    """Tell with each window of this request's model that begins what part of the audio is before it."""
    if on_progress is not unwatched:
        whisper.feature_extractor = _Followed(whisper.feature_extractor, on_progress)


class _Followed:
    """A feature extractor whose features tell."""

    def __init__(self, extractor: Any, on_progress: OnProgress) -> None:
        self._extractor = extractor
        self._on_progress = on_progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> _FollowedFeatures:
        features: _FollowedFeatures = self._extractor(*args, **kwargs).view(_FollowedFeatures)
        features.on_progress = self._on_progress
        return features


class _FollowedFeatures(np.ndarray[Any, np.dtype[np.float32]]):
    """Shape (mels, frames). A window is `features[:, seek : seek + length]`; detection slices with an ellipsis."""

    on_progress: OnProgress

    def __getitem__(self, key: Any) -> Any:
        plain = self.view(np.ndarray)
        if isinstance(key, tuple) and key[0] == slice(None) and isinstance(key[1], slice):
            self.on_progress(min(1.0, (key[1].start or 0) / max(1, self.shape[1])))
        return plain[key]
