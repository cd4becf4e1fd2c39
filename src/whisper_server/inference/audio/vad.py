"""Whether sound is speech: faster-whisper's Silero model, fed as the sound arrives.

The model's state and the last samples are carried from call to call, so however the sound is cut into pieces, the
probabilities are those of all of it at once.
"""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import get_vad_model

from whisper_server.inference.audio.features import Samples

WINDOW = 512
_CONTEXT = 64
_STATE = (1, 1, 128)


def load() -> None:
    """Load the model, which takes a moment the first time."""
    get_vad_model()


class VoiceActivity:
    """The model is shared, the state is one stream's."""

    def __init__(self) -> None:
        self._h = self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._rest = np.empty(0, np.float32)

    def __call__(self, samples: Samples) -> list[float]:
        """Return the probability of speech in each window of 32 ms that is complete by now."""
        waiting = np.concatenate([self._rest, samples])
        count = len(waiting) // WINDOW
        self._rest = waiting[count * WINDOW :].copy()
        if not count:
            return []
        windows = waiting[: count * WINDOW].reshape(count, WINDOW)
        before = np.vstack([self._context, windows[:-1, -_CONTEXT:]])
        self._context = windows[-1:, -_CONTEXT:].copy()
        inputs = {"input": np.hstack([before, windows]), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = get_vad_model().session.run(None, inputs)
        return [float(probability) for probability in probabilities.ravel()]
