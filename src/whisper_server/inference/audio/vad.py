"""Voice activity detection on streamed audio, with the Silero model that faster-whisper bundles.

The model's state and the last samples are kept between calls, so the probabilities do not depend on how the audio is
divided into chunks.
"""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import get_vad_model

from whisper_server.inference.audio.waveform import Samples

WINDOW = 512
_CONTEXT = 64
_STATE = (1, 1, 128)


def load() -> None:
    """Load the model, which takes a moment the first time."""
    get_vad_model()


class VoiceActivity:
    """The state of one audio stream; the model itself is shared."""

    def __init__(self) -> None:
        self._h = self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._remainder = np.empty(0, np.float32)

    def __call__(self, samples: Samples) -> list[float]:
        """Return the probability of speech in each window (32 ms) that the samples complete."""
        pending = np.concatenate([self._remainder, samples])
        count = len(pending) // WINDOW
        self._remainder = pending[count * WINDOW :].copy()
        if not count:
            return []
        windows = pending[: count * WINDOW].reshape(count, WINDOW)
        contexts = np.vstack([self._context, windows[:-1, -_CONTEXT:]])
        self._context = windows[-1:, -_CONTEXT:].copy()
        inputs = {"input": np.hstack([contexts, windows]), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = get_vad_model().session.run(None, inputs)
        return [float(probability) for probability in probabilities.ravel()]
