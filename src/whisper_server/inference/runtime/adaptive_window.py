"""The adaptive encoder window: the audio and some silence instead of 30 seconds, most of which are padding.

Whisper's encoder takes as long for 3 seconds of speech as for 30, but CTranslate2 accepts windows of any length. With
at least 5 seconds of silence after the speech, word error rates stay nearly the same (docs/performance.md). The silence
has the value of silent audio rather than zero. Sometimes a short window makes the decoder loop or guess; such results
are suspicious, and RequestModel decodes the window again in full.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_server.inference.runtime.calls import avg_logprob

# Lengths in mel frames of 10 ms.
FULL = 3000
SILENCE = 512
# Only windows of one length can be encoded as a batch, so lengths are multiples of this.
STEP = 128
# CTranslate2 takes an encoder output for features if its length, half of the window's, is the number of mels. So the
# shortest output must be longer than 128.
SHORTEST = 768

# No window of 45 minutes of English exceeds these limits (docs/performance.md). English has
# about 4 tokens per second and the densest scripts 10; a loop has hundreds.
_MAX_TOKENS_PER_SECOND = 15
_EXTRA_TOKENS = 15
_LONGEST_REPEATED = 8
_REPETITIONS = 4
_MIN_AVG_LOGPROB = -1.0  # Whisper's default log_prob_threshold


def shorten(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], float] | None:
    """Return a window of shape (1, mels, frames) and the seconds of audio in it, or None if it must be full.

    `features` have the shape (1, mels, 3000), with zeros after the audio as faster-whisper pads them.
    """
    frames = int(np.flatnonzero(features[0].any(axis=0))[-1:].sum()) + 1
    length = _window_length(frames)
    if length >= FULL:
        return None
    audio = features[:, :, :frames]
    window = np.full((1, features.shape[1], length), _silence_value(audio), np.float32)
    window[:, :, :frames] = audio
    return window, frames / 100


def max_audio_frames(frames: int) -> int:
    """Return the most frames of audio whose window is as long as the window of these."""
    length = _window_length(frames)
    return FULL if length >= FULL else length - SILENCE


def is_suspicious(result: Any, seconds: float, length_penalty: float, end_of_text: int) -> bool:
    """Whether a generation result for so many seconds of audio looks like a loop or a guess."""
    text = [token for token in result.sequences_ids[0] if token < end_of_text]
    if len(text) > _EXTRA_TOKENS + _MAX_TOKENS_PER_SECOND * seconds or repeats(text):
        return True
    return avg_logprob(result, length_penalty) < _MIN_AVG_LOGPROB


def repeats(tokens: list[int]) -> bool:
    """Whether a sequence of 2 to 8 tokens occurs 4 times in a row, or a single token 8 times."""
    for size in range(1, _LONGEST_REPEATED + 1):
        times = _REPETITIONS if size > 1 else 2 * _REPETITIONS
        for start in range(len(tokens) - size * times + 1):
            if tokens[start : start + size] * times == tokens[start : start + size * times]:
                return True
    return False


def _window_length(frames: int) -> int:
    return max(SHORTEST, math.ceil((frames + SILENCE) / STEP) * STEP)


def _silence_value(audio: NDArray[np.float32]) -> float:
    """Return the floor of Whisper's log-mel spectrum: 8 decades below the maximum, which is 2 after its scaling."""
    return max(float(audio.max()) - 2.0, float(audio.min()))
