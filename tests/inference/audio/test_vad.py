from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from faster_whisper import decode_audio
from faster_whisper.vad import get_vad_model

from whisper_server.inference.audio.vad import WINDOW, VoiceActivity


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_do_not_depend_on_the_chunks(audio: Path, seed: int) -> None:
    samples = decode_audio(str(audio / "sentences.flac"))
    count = len(samples) // WINDOW
    # The library ignores the end of its input, so pad it, as the library itself does.
    offline = get_vad_model()(np.pad(samples[: count * WINDOW], (0, WINDOW))).ravel()[:-1]
    voice, random, position = VoiceActivity(), Random(seed), 0
    probabilities: list[float] = []
    while position < len(samples):
        length = random.choice([1, 100, 320, 512, 1600, 9999])
        probabilities += voice(samples[position : position + length])
        position += length
    assert len(probabilities) == count
    assert np.allclose(probabilities, offline, atol=1e-6)
    assert max(probabilities) > 0.9


def test_the_samples_are_not_modified() -> None:
    samples = np.linspace(-1, 1, 2048, dtype=np.float32)
    before = samples.copy()
    VoiceActivity()(samples)
    assert (samples == before).all()


def test_an_incomplete_window_has_no_probability() -> None:
    voice = VoiceActivity()
    assert voice(np.zeros(WINDOW - 1, np.float32)) == []
    assert len(voice(np.zeros(1, np.float32))) == 1
