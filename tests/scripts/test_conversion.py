"""Conversion of real weights: the converted model transcribes as the original does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import convert_models
import numpy as np
import pytest
from checkpoints import openai_checkpoint, save, save_for_transformers
from conftest import SHARED
from ct2_directories import read_variables
from faster_whisper import WhisperModel

from benchmarks.speech.word_error_rate import count_errors
from whisper_server.core.errors import ModelNotFound
from whisper_server.core.settings import cache_dir
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver


def _installed_model(name: str) -> Path:
    directory = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages").find(name)
    assert directory is not None
    return directory


def _convert(model: object, models_dir: Path, *quantizations: str) -> list[Path]:
    flags = [word for quantization in quantizations for word in ("--quantization", quantization)]
    assert convert_models.main([str(model), "--models-dir", str(models_dir), *flags]) == 0
    return [models_dir / f"{Path(str(model)).stem}-{quantization}" for quantization in quantizations]


def _words(directory: Path, clip: Path, compute_type: str = "default") -> str:
    model = WhisperModel(str(directory), device="cpu", compute_type=compute_type, local_files_only=True)
    segments, _ = model.transcribe(str(clip), beam_size=1, temperature=0.0, word_timestamps=True)
    return repr([(segment.text, segment.words) for segment in segments])


def _plain_text(directory: Path, clip: Path) -> str:
    model = WhisperModel(str(directory), device="cpu", compute_type="float32", local_files_only=True)
    return "".join(segment.text for segment in model.transcribe(str(clip), beam_size=1, temperature=0.0)[0])


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def _differences(variables: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """The weights that the others lack or that differ there; a newer directory may have more."""
    return [name for name, value in variables.items() if name not in others or not np.array_equal(value, others[name])]


def test_an_openai_checkpoint_converts_to_the_original_weights(tmp_path: Path, audio: Path) -> None:
    pytest.importorskip("torch")
    original = _installed_model("tiny.en")
    file = save(openai_checkpoint(original), tmp_path / "tiny.en.pt")
    float32, int8 = _convert(file, tmp_path / "models", "float32", "int8")
    assert _differences(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    expected, config = (json.loads((folder / "config.json").read_text()) for folder in (original, float32))
    assert [name for name in expected if expected[name] != config[name]] in ([], ["lang_ids"])
    clip = audio / "sentences.flac"
    assert _words(float32, clip) == _words(original, clip, "float32")
    assert _size(int8) < 0.4 * _size(float32)
    assert not list((tmp_path / "models").glob(".*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_transformers_checkpoint_converts_to_the_original_weights(tmp_path: Path, audio: Path) -> None:
    pytest.importorskip("transformers")
    original = _installed_model("tiny.en")
    folder = save_for_transformers(openai_checkpoint(original), original / "tokenizer.json", tmp_path / "tiny")
    (float32,) = _convert(folder, tmp_path / "models", "float32")
    assert _differences(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    clip = audio / "short.flac"
    assert _plain_text(float32, clip) == _plain_text(original, clip)


def test_a_killed_run_leaves_no_model(tmp_path: Path) -> None:
    """It is killed when the weights have been written but not yet verified."""
    command = [sys.executable, "-m", "convert_models", "--requantize", "tiny.en", "--quantization", "float32"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([*command, "--models-dir", str(tmp_path)], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"verifying" in line:
                process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert [path.name[:1] for path in tmp_path.iterdir()] == ["."]
    resolver = ModelResolver(models_dir=tmp_path, packages=PackagedModels({}, cache_dir=tmp_path), offline=True)
    with pytest.raises(ModelNotFound):
        resolver.resolve("tiny.en-float32")


@pytest.mark.full
def test_a_directory_is_requantized(tmp_path: Path, audio: Path) -> None:
    models = tmp_path / "models"
    flags = ["--requantize", "--models-dir", str(models)]
    assert convert_models.main(["tiny.en", *flags, "--quantization", "float32", "--quantization", "int8"]) == 0
    float32, int8 = models / "tiny.en-float32", models / "tiny.en-int8"
    original = _installed_model("tiny.en")
    assert _differences(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    assert _words(float32, audio / "short.flac") == _words(original, audio / "short.flac", "float32")
    assert _size(int8) < 0.4 * _size(float32)
    assert (int8 / "tokenizer.json").read_bytes() == (original / "tokenizer.json").read_bytes()


def test_a_quantized_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--requantize", "--models-dir", str(tmp_path), "--quantization"]
    assert convert_models.main(["tiny.en", *flags, "int8"]) == 0
    assert convert_models.main(["tiny.en-int8", *flags, "float16"]) == 1
    assert "is already quantized" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
@pytest.mark.skipif(not (SHARED / "audio").is_dir(), reason="no ../shared/audio")
def test_int8_has_nearly_the_error_rate_of_float32(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = save(openai_checkpoint(_installed_model(name)), tmp_path / f"{name}.pt")
    texts = json.loads((SHARED / "audio" / "transcripts.json").read_text())
    rates = []
    for directory in _convert(file, tmp_path / "models", "float32", "int8"):
        model = WhisperModel(str(directory), device="cpu", compute_type="default", local_files_only=True)
        pairs = []
        for clip, text in texts.items():
            segments, _ = model.transcribe(str(SHARED / "audio" / clip), beam_size=1)
            pairs.append((text, "".join(segment.text for segment in segments)))
        errors, words = count_errors(pairs)
        rates.append(errors / words)
    print(f"{name}: {rates[0]:.2%} in float32, {rates[1]:.2%} in int8")
    assert rates[1] <= rates[0] + 0.01
