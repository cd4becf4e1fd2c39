"""The adaptive encoder window: a clip and some silence after it, instead of 30 seconds of which most is padding.

Whisper's encoder costs the same for 3 seconds of speech as for 30. CTranslate2 takes windows of any length; with at
least 5 seconds of silence after the speech the text stays the same (docs/performance.md has the measurements). The
silence is what silent audio would give, not zeros. Now and then a short window sends the decoder into a loop or makes
it unsure, and such a result is found out and done again with the full window.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL = 3000
SILENCE = 512
# Windows of one length can be encoded as a batch, so lengths are rounded up to these steps. Half of the shortest is
# still longer than the 80 or 128 mels: CTranslate2 would take an output of that length for input.
STEP = 128
SHORTEST = 768

# English has about 4 tokens a second and the densest scripts 10; a loop has hundreds.
_TOKENS_PER_SECOND = 15
_TOKENS_TO_START = 15
_LEAST_LOG_PROB = -1.0
_LONGEST_REPEATED = 8
_REPETITIONS = 4


def shortened(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], float] | None:
    """Return a shorter window, shape (1, mels, frames), and the seconds of sound in it; None if it must be full.

    `features` are a window as faster-whisper pads it: with zeros after the sound.
    """
    frames = int(np.flatnonzero(features[0].any(axis=0))[-1:].sum()) + 1
    length = _length(frames)
    if length >= FULL:
        return None
    sound = features[:, :, :frames]
    window = np.full((1, features.shape[1], length), _silence(sound), np.float32)
    window[:, :, :frames] = sound
    return window, frames / 100


def longest_sound(frames: int) -> int:
    """The most frames of sound for which the window is as long as for these."""
    length = _length(frames)
    return FULL if length >= FULL else length - SILENCE


def _length(frames: int) -> int:
    return max(SHORTEST, math.ceil((frames + SILENCE) / STEP) * STEP)


def _silence(sound: NDArray[np.float32]) -> float:
    """The floor of a log-mel spectrum: 8 decades, which is 2 after scaling, below the file's loudest."""
    return max(float(sound.max()) - 2.0, float(sound.min()))


def suspicious(result: Any, seconds: float, length_penalty: float, end_of_text: int) -> bool:
    """Whether a `WhisperGenerationResult` from a short window looks like a loop or like guessing."""
    tokens = result.sequences_ids[0]
    text = [token for token in tokens if token < end_of_text]
    if len(text) > _TOKENS_TO_START + _TOKENS_PER_SECOND * seconds or repeats(text):
        return True
    average: float = result.scores[0] * len(tokens) ** length_penalty / (len(tokens) + 1)
    return average < _LEAST_LOG_PROB


def repeats(tokens: list[int]) -> bool:
    """Whether some sequence of up to 8 tokens comes 4 times in a row (of one token: 8 times)."""
    for size in range(1, _LONGEST_REPEATED + 1):
        times = _REPETITIONS if size > 1 else 2 * _REPETITIONS
        for start in range(len(tokens) - size * times + 1):
            if tokens[start : start + size] * times == tokens[start : start + size * times]:
                return True
    return False
