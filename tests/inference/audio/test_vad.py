from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from faster_whisper import decode_audio
from faster_whisper.vad import get_vad_model

from whisper_server.inference.audio.vad import WINDOW, VoiceActivity


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_length_give_the_probabilities_of_the_whole(audio: Path, seed: int) -> None:
    samples = decode_audio(str(audio / "sentences.flac"))
    whole = len(samples) // WINDOW
    # The library blanks the end of what it is given, so that is padding here, as where it uses this itself.
    offline = get_vad_model()(np.pad(samples[: whole * WINDOW], (0, WINDOW))).ravel()[:-1]
    voice, random, at, found = VoiceActivity(), Random(seed), 0, []
    while at < len(samples):
        length = random.choice([1, 100, 320, 512, 1600, 9999])
        found += voice(samples[at : at + length])
        at += length
    assert len(found) == whole
    assert np.allclose(found, offline, atol=1e-6)
    assert max(found) > 0.9


def test_the_samples_are_left_as_they_are() -> None:
    samples = np.linspace(-1, 1, 2048, dtype=np.float32)
    before = samples.copy()
    VoiceActivity()(samples)
    assert (samples == before).all()


def test_less_than_a_window_says_nothing_yet() -> None:
    voice = VoiceActivity()
    assert voice(np.zeros(WINDOW - 1, np.float32)) == []
    assert len(voice(np.zeros(1, np.float32))) == 1
