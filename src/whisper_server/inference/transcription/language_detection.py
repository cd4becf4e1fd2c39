"""Detects the language of a file without transcribing it."""

from __future__ import annotations

import numpy as np
from faster_whisper import WhisperModel

from whisper_server.inference.audio.waveform import Waveform


def detect_language(whisper: WhisperModel, audio: Waveform) -> tuple[str, float]:
    """Return the code of the language in the first 30 s, and its probability; an English-only model has one answer."""
    if not whisper.model.is_multilingual:
        return "en", 1.0
    window = np.asarray(audio[: whisper.feature_extractor.n_samples])
    language, probability, _ = whisper.detect_language(window)
    return language, probability
