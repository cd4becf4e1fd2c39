from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_random_model import ARCHITECTURES, make_tokenizer, write_random_model
from tokenizer_files import fits

from whisper_server.inference.hardware.memory_plan import Dimensions


def test_a_model_has_the_architecture_and_runs(tmp_path: Path) -> None:
    from faster_whisper import WhisperModel

    directory = write_random_model("tiny", tmp_path / "tiny", quantization="int8")
    dimensions = Dimensions.read(directory / "model.bin")
    assert dimensions is not None
    assert (dimensions.decoder_layers, dimensions.width) == (4, 384)
    model = WhisperModel(str(directory), device="cpu", compute_type="int8")
    assert model.model.is_multilingual
    segments, info = model.transcribe(np.zeros(16_000, np.float32), temperature=0, max_new_tokens=5, beam_size=1)
    list(segments)
    assert info.language in model.supported_languages


@pytest.mark.parametrize("tokens", sorted({shape[-1] for shape in ARCHITECTURES.values()}))
def test_each_vocabulary_has_a_tokenizer(tokens: int) -> None:
    assert fits(make_tokenizer(tokens), tokens)
