"""Audio as files and as samples."""

from __future__ import annotations

import wave
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000


def audio_seconds(file: Path) -> float:
    with av.open(str(file)) as container:
        return float((container.duration or 0) / av.time_base)


def to_pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def wav_bytes(samples: NDArray[np.int16]) -> bytes:
    """A mono WAV file of samples at 16 kHz."""
    content = BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return content.getvalue()
