"""Real weights there and back: what is converted hears what the original hears."""

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
from wer import wer

from whisper_server.core.errors import ModelNotFound
from whisper_server.core.settings import cache_dir
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver


def _installed(name: str) -> Path:
    directory = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages").find(name)
    assert directory is not None
    return directory


def _converted(model: object, models_dir: Path, *quantizations: str) -> list[Path]:
    flags = [word for quantization in quantizations for word in ("--quantization", quantization)]
    assert convert_models.main([str(model), "--models-dir", str(models_dir), *flags]) == 0
    return [models_dir / f"{Path(str(model)).stem}-{quantization}" for quantization in quantizations]


def _text(directory: Path, clip: Path, compute_type: str = "default") -> str:
    model = WhisperModel(str(directory), device="cpu", compute_type=compute_type, local_files_only=True)
    segments, _ = model.transcribe(str(clip), beam_size=1, temperature=0.0, word_timestamps=True)
    return repr([(segment.text, segment.words) for segment in segments])


def _said(directory: Path, clip: Path) -> str:
    model = WhisperModel(str(directory), device="cpu", compute_type="float32", local_files_only=True)
    return "".join(segment.text for segment in model.transcribe(str(clip), beam_size=1, temperature=0.0)[0])


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def _missing(variables: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """The weights that are not the same among the others; what is newer than an old directory may be more."""
    return [name for name, value in variables.items() if not np.array_equal(value, others.get(name))]


def test_a_checkpoint_of_openai_becomes_the_model_that_it_was(tmp_path: Path, audio: Path) -> None:
    pytest.importorskip("torch")
    original = _installed("tiny.en")
    file = save(openai_checkpoint(original), tmp_path / "tiny.en.pt")
    float32, int8 = _converted(file, tmp_path / "models", "float32", "int8")
    assert _missing(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    theirs, ours = (json.loads((folder / "config.json").read_text()) for folder in (original, float32))
    assert [name for name in theirs if theirs[name] != ours[name]] in ([], ["lang_ids"])
    clip = audio / "sentences.flac"
    assert _text(float32, clip) == _text(original, clip, "float32")
    assert _size(int8) < 0.4 * _size(float32)
    assert not list((tmp_path / "models").glob(".*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_checkpoint_of_transformers_becomes_the_model_that_it_was(tmp_path: Path, audio: Path) -> None:
    pytest.importorskip("transformers")
    original = _installed("tiny.en")
    folder = save_for_transformers(openai_checkpoint(original), original / "tokenizer.json", tmp_path / "tiny")
    (float32,) = _converted(folder, tmp_path / "models", "float32")
    assert _missing(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    clip = audio / "short.flac"
    assert _said(float32, clip) == _said(original, clip)


def test_a_run_that_is_killed_leaves_no_model(tmp_path: Path) -> None:
    """When the weights are written and not yet tried."""
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


def test_a_directory_is_requantized(tmp_path: Path, audio: Path) -> None:
    models = tmp_path / "models"
    flags = ["--requantize", "--models-dir", str(models)]
    assert convert_models.main(["tiny.en", *flags, "--quantization", "float32", "--quantization", "int8"]) == 0
    float32, int8 = models / "tiny.en-float32", models / "tiny.en-int8"
    original = _installed("tiny.en")
    assert _missing(read_variables(original / "model.bin"), read_variables(float32 / "model.bin")) == []
    assert _text(float32, audio / "short.flac") == _text(original, audio / "short.flac", "float32")
    assert _size(int8) < 0.4 * _size(float32)
    assert (int8 / "tokenizer.json").read_bytes() == (original / "tokenizer.json").read_bytes()


def test_a_quantized_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--requantize", "--models-dir", str(tmp_path), "--quantization"]
    assert convert_models.main(["tiny.en", *flags, "int8"]) == 0
    assert convert_models.main(["tiny.en-int8", *flags, "float16"]) == 1
    assert "is quantized already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
@pytest.mark.skipif(not (SHARED / "audio").is_dir(), reason="no ../shared/audio")
def test_int8_hears_nearly_as_well_as_float32(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = save(openai_checkpoint(_installed(name)), tmp_path / f"{name}.pt")
    said = json.loads((SHARED / "audio" / "transcripts.json").read_text())
    rates = []
    for directory in _converted(file, tmp_path / "models", "float32", "int8"):
        model = WhisperModel(str(directory), device="cpu", compute_type="default", local_files_only=True)
        pairs = []
        for clip, words in said.items():
            segments, _ = model.transcribe(str(SHARED / "audio" / clip), beam_size=1)
            pairs.append((words, "".join(segment.text for segment in segments)))
        errors, count = wer(pairs)
        rates.append(errors / count)
    print(f"{name}: {rates[0]:.2%} in float32, {rates[1]:.2%} in int8")
    assert rates[1] <= rates[0] + 0.01
