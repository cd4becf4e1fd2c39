"""Estimates the memory that a model needs and plans the compute type and batch size that fit.

The estimates are computed from the model's dimensions. Two parts are calibrated: memory on a CPU by measurements of
tiny.en and base, memory on a GPU by faster-whisper's published figures for large-v2 (docs/memory.md).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BEAM_SIZE = 5

# Bytes per weight in a matrix, and per any other number.
_BYTES = {
    "float32": (4, 4),
    "bfloat16": (2, 2),
    "float16": (2, 2),
    "int16": (2, 4),
    "int8": (1, 4),
    "int8_float32": (1, 4),
    "int8_float16": (1, 2),
    "int8_bfloat16": (1, 2),
}
# Whisper's encoder positions in 30 s, decoder positions, and dimensions per attention head.
_POSITIONS = 1500
_CONTEXT = 448
_HEAD = 64
# Tokens in a typical window, whose keys and values each beam caches.
_TOKENS = 64

# Per model, beyond the weights: the tokenizer, and the vocabulary in Python's and in CTranslate2's form.
_TOKENIZER = 16_000_000
_VOCABULARY = 25_000_000

# On a GPU: the CUDA context with its libraries, the allocator's overhead, and encoder workspaces per worker.
_CUDA_CONTEXT = 480_000_000
_ALLOCATED = 1.1
_WORKSPACES = 2.5


def matrix_bytes(compute_type: str) -> int:
    """Return the bytes per weight in a matrix; nearly all weights are in matrices."""
    return _BYTES[compute_type][0]


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The dimensions of a Whisper model: `width` is d_model, `mels` the number of mel bands in its input."""

    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int = 51865
    mels: int = 80

    @classmethod
    def read(cls, weights: Path) -> Dimensions | None:
        """Read the dimensions from the table of variables in a `model.bin`; None if it is not a Whisper model."""
        try:
            with weights.open("rb") as file:
                shapes = dict(_variables(file))
            width, mels, _ = shapes["encoder/conv1/weight"]
            vocabulary = shapes["decoder/embeddings/weight"][0]
            return cls(width, _layers("encoder", shapes), _layers("decoder", shapes), vocabulary, mels)
        except (OSError, KeyError, ValueError, struct.error):
            return None

    def weight_bytes(self, compute_type: str) -> int:
        matrix, other = _BYTES[compute_type]
        return self._matrices * matrix + self._others * other

    def window_bytes(self, compute_type: str) -> int:
        """Return the bytes that one window adds to a batch: the decoder's keys and values of its audio and beams."""
        _, number = _BYTES[compute_type]
        return 2 * self.decoder_layers * self.width * (_POSITIONS + BEAM_SIZE * _TOKENS) * number

    def encoder_bytes(self, compute_type: str) -> int:
        """Return the temporary bytes for encoding one window: the attention matrix, twice, and activations."""
        _, number = _BYTES[compute_type]
        return (2 * self.width // _HEAD * _POSITIONS + 14 * self.width) * _POSITIONS * number

    def cpu_copy_bytes(self, compute_type: str) -> int:
        """Return the bytes of a copy in RAM: CTranslate2 stores the embeddings again for the output projection."""
        matrix, other = _BYTES[compute_type]
        projection = self.vocabulary * self.width * (other if matrix == other else matrix + other)
        return self.weight_bytes(compute_type) + projection + _VOCABULARY

    @property
    def _matrices(self) -> int:
        layers = 12 * self.encoder_layers + 16 * self.decoder_layers
        return layers * self.width**2 + self.vocabulary * self.width

    @property
    def _others(self) -> int:
        """Return the number of parameters in convolutions, positions, biases, norms and the matrices' scales."""
        convolutions = 3 * self.width * (self.mels + self.width)
        vectors = (25 * self.encoder_layers + 35 * self.decoder_layers) * self.width
        return convolutions + (_POSITIONS + _CONTEXT) * self.width + vectors + self.vocabulary


def _variables(file: BinaryIO) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of the variables in a CTranslate2 `model.bin` without reading their values."""

    def read(layout: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))

    def text() -> str:
        return file.read(read("H")[0]).rstrip(b"\0").decode()

    read("I")
    text()
    _, count = read("II")
    for _ in range(count):
        name, (rank,) = text(), read("B")
        shape = read(f"{rank}I")
        _, size = read("BI")
        file.seek(size, os.SEEK_CUR)
        yield name, shape


def _layers(side: str, names: Iterable[str]) -> int:
    matches = (re.match(rf"{side}/layer_(\d+)/", name) for name in names)
    return len({match[1] for match in matches if match})


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a device, in bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class MemoryEstimator:
    """Estimates a model's memory, in bytes, for a number of workers, copies of the weights and windows in a batch."""

    on_gpu: bool
    batch: int
    workers: int = 1
    copies: int = 1

    @property
    def context_bytes(self) -> int:
        """The memory that the device's runtime takes once per process, whatever is loaded."""
        return _CUDA_CONTEXT if self.on_gpu else 0

    def resident_bytes(self, model: Dimensions, compute_type: str) -> int:
        """Return what the model keeps on a CPU after its first window."""
        return _TOKENIZER + self.copies * model.cpu_copy_bytes(compute_type) + model.encoder_bytes(compute_type)

    def peak_bytes(self, model: Dimensions, compute_type: str, batch: int) -> int:
        """Return the most that the model needs with batches of this size and a beam search of BEAM_SIZE."""
        windows = self.workers * batch * model.window_bytes(compute_type)
        if not self.on_gpu:
            encoders = (self.workers - 1) * model.encoder_bytes(compute_type)
            return self.resident_bytes(model, compute_type) + encoders + windows
        # Activations have 16 bits unless the matrices have 32.
        number = "float32" if _BYTES[compute_type][0] == 4 else "float16"
        window = min(model.window_bytes(compute_type), model.window_bytes(number))
        weights = int(_ALLOCATED * model.weight_bytes(compute_type))
        work = self.workers * (int(_WORKSPACES * model.encoder_bytes(number)) + batch * window)
        return self.context_bytes + weights + work


@dataclass(frozen=True, slots=True)
class Plan:
    """A compute type and the largest batch that fits with it, up to the configured one.

    It needs `needed` of the `free` bytes (None if unknown). `too_large` describes the types that do not fit.
    """

    compute_type: str
    batch: int
    needed: int
    free: int | None
    too_large: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= self.free

    def __str__(self) -> str:
        free = "of an unknown amount" if self.free is None else f"of {_gigabytes(self.free)} free"
        too_large = f"; too large: {', '.join(self.too_large)}" if self.too_large else ""
        verdict = "" if self.fits else ", which is not enough: it may be slow or run out of memory"
        needed = _gigabytes(self.needed)
        return f"{self.compute_type} with batches of up to {self.batch}: {needed} {free}{verdict}{too_large}"


def choose_plan(model: Dimensions, estimator: MemoryEstimator, types: Sequence[str], free: int | None) -> Plan:
    """Return the first of the types that fits with one window, and the largest batch that fits with it.

    If no type fits, the plan has the last type and one window, and `fits` is false.
    """
    too_large: list[str] = []
    for compute_type in types:
        for batch in range(estimator.batch, 0, -1):
            needed = estimator.peak_bytes(model, compute_type, batch)
            if free is None or needed <= free:
                return Plan(compute_type, batch, needed, free, tuple(too_large))
        too_large.append(f"{compute_type} ({_gigabytes(needed)})")
    return Plan(compute_type, 1, needed, free, tuple(too_large[:-1]))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
