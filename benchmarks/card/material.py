"""Makes what the steps need and a machine without network lacks: models with random weights, and clips of speech."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from faster_whisper import decode_audio

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16, wav_bytes
from benchmarks.transcription.libraries import find_model
from whisper_server.core.errors import WhisperServerError

ROOT = Path(__file__).parents[2]
AUDIO = ROOT / "tests" / "audio"
_RECORDINGS = ("long.flac", "sentences.flac")
_SHORTEST, _LONGEST = 5.0, 11.0
# A model is loaded in any compute type, whatever the type of its file.
_QUANTIZATION = "float16"


def make_model(shape: str, folder: Path) -> Path:
    """Return the directory of a model with random weights, which is made unless it is there."""
    directory = folder / "models" / shape
    if not (directory / "model.bin").is_file():
        directory.parent.mkdir(parents=True, exist_ok=True)
        script = [sys.executable, "scripts/make_random_model.py", shape, str(directory)]
        subprocess.run([*script, "--quantization", _QUANTIZATION], cwd=ROOT, check=True)
    return directory


def make_clips(folder: Path) -> list[Path]:
    """Cut the project's own recordings into clips of 5 to 11 s, unless that was done."""
    directory = folder / "clips"
    if directory.is_dir():
        return sorted(directory.glob("*.wav"))
    directory.mkdir(parents=True)
    generator = random.Random(1)
    speech = np.concatenate([to_pcm16(decode_audio(str(AUDIO / name))) for name in _RECORDINGS])
    for number, (start, end) in enumerate(_cuts(len(speech) / SAMPLE_RATE, generator)):
        samples = speech[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        (directory / f"{number:02}.wav").write_bytes(wav_bytes(samples))
    return sorted(directory.glob("*.wav"))


def available(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the real models that are on this machine."""
    return tuple(name for name in names if _is_here(name))


def _is_here(name: str) -> bool:
    try:
        find_model(name)
    except WhisperServerError:
        return False
    return True


def _cuts(seconds: float, generator: random.Random) -> Iterator[tuple[float, float]]:
    start = 0.0
    while seconds - start >= _SHORTEST:
        end = start + min(generator.uniform(_SHORTEST, _LONGEST), seconds - start)
        yield start, end
        start = end
