"""What a model takes and what fits: the bytes of its weights and of its work, and a plan for the memory there is.

The parts are counted from the model's dimensions. Two are calibrated: what a CPU holds by measurements of tiny.en and
base, what a card takes by faster-whisper's published figures for large-v2 (docs/memory.md).
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

# Bytes of a weight in a matrix, and of any other number.
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
_POSITIONS = 1500
_CONTEXT = 448
_HEAD = 64
# Tokens of text in a usual window, which the beams remember.
_TOKENS = 64

# Of a process that has the libraries already: the tokenizer and the vocabulary in Python's and in CTranslate2's form.
_TOKENIZER = 16_000_000
_VOCABULARY = 25_000_000

# A card has the context of CUDA and its libraries, and the allocator keeps more than is asked for.
_CUDA_CONTEXT = 480_000_000
_ALLOCATED = 1.1
_WORKSPACES = 2.5


def matrix_bytes(compute_type: str) -> int:
    """The bytes of a weight in a matrix, which nearly all are."""
    return _BYTES[compute_type][0]


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Of a Whisper model. `width` is that of its layers, `mels` the height of its input."""

    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int = 51865
    mels: int = 80

    @classmethod
    def read(cls, weights: Path) -> Dimensions | None:
        """Return what the table of variables in a CTranslate2 `model.bin` says; None if it is none of Whisper."""
        try:
            with weights.open("rb") as file:
                shapes = dict(_variables(file))
            width, mels, _ = shapes["encoder/conv1/weight"]
            vocabulary = shapes["decoder/embeddings/weight"][0]
            return cls(width, _layers("encoder", shapes), _layers("decoder", shapes), vocabulary, mels)
        except (OSError, KeyError, ValueError, struct.error):
            return None

    def weights(self, compute_type: str) -> int:
        """The bytes of the weights in this type."""
        matrix, other = _BYTES[compute_type]
        return self._matrices * matrix + self._others * other

    def window(self, compute_type: str, beam_size: int = BEAM_SIZE) -> int:
        """The bytes that a window adds to a batch: the decoder's keys and values of its sound and of each beam."""
        _, number = _BYTES[compute_type]
        return 2 * self.decoder_layers * self.width * (_POSITIONS + beam_size * _TOKENS) * number

    def encoding(self, compute_type: str) -> int:
        """The bytes that encoding a window takes while it lasts: attention, twice, and the layers' activations."""
        _, number = _BYTES[compute_type]
        return (2 * self.width // _HEAD * _POSITIONS + 14 * self.width) * _POSITIONS * number

    def on_cpu(self, compute_type: str) -> int:
        """The bytes of a loaded copy: CTranslate2 has the embeddings once more for the projection to the vocabulary."""
        matrix, other = _BYTES[compute_type]
        again = self.vocabulary * self.width * (other if matrix == other else matrix + other)
        return self.weights(compute_type) + again + _VOCABULARY

    @property
    def _matrices(self) -> int:
        layers = 12 * self.encoder_layers + 16 * self.decoder_layers
        return layers * self.width**2 + self.vocabulary * self.width

    @property
    def _others(self) -> int:
        """Convolutions, positions, biases, norms and the scales of the matrices."""
        convolutions = 3 * self.width * (self.mels + self.width)
        vectors = (25 * self.encoder_layers + 35 * self.decoder_layers) * self.width
        return convolutions + (_POSITIONS + _CONTEXT) * self.width + vectors + self.vocabulary


def _variables(file: BinaryIO) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes; the values are passed over."""

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
    found = (re.match(rf"{side}/layer_(\d+)/", name) for name in names)
    return len({match[1] for match in found if match})


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device, in bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Load:
    """How a model is to be loaded: so many copies of its weights, and so many workers with batches of that size."""

    on_card: bool
    batch: int
    workers: int = 1
    copies: int = 1

    @property
    def context(self) -> int:
        """The bytes that a device takes in a process once and for all."""
        return _CUDA_CONTEXT if self.on_card else 0

    def resident(self, model: Dimensions, compute_type: str) -> int:
        """The bytes that it takes after its first window."""
        if self.on_card:
            return self.needed(model, compute_type, 1)
        return _TOKENIZER + self.copies * model.on_cpu(compute_type) + model.encoding(compute_type)

    def needed(self, model: Dimensions, compute_type: str, batch: int) -> int:
        """The bytes that it takes at most with batches of this size, by a beam search in each window."""
        windows = self.workers * batch * model.window(compute_type)
        if not self.on_card:
            more = (self.workers - 1) * model.encoding(compute_type) + windows
            return self.resident(model, compute_type) + more
        # Activations have 16 bits wherever the matrices have no more.
        number = "float32" if _BYTES[compute_type][0] == 4 else "float16"
        window = min(model.window(compute_type), model.window(number))
        weights = int(_ALLOCATED * model.weights(compute_type))
        work = self.workers * (int(_WORKSPACES * model.encoding(number)) + batch * window)
        return self.context + weights + work


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be loaded: `needed` bytes of `free` ones; `fits` says whether these are enough.

    `batch` is the largest that fits, up to what was wanted. `free` is None where nobody knows.
    """

    compute_type: str
    batch: int
    needed: int
    free: int | None
    others: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= self.free

    def __str__(self) -> str:
        free = "of an unknown amount" if self.free is None else f"of {_size(self.free)} that are free"
        passed = f"; too large: {', '.join(self.others)}" if self.others else ""
        verdict = "" if self.fits else ", which is not enough: it may be slow or stop short"
        return f"{self.compute_type} with batches of up to {self.batch}: {_size(self.needed)} {free}{verdict}{passed}"


def plan(model: Dimensions, load: Load, types: Sequence[str], free: int | None) -> Plan:
    """The first of the types, the best first, that fits with one window, and the largest batch that fits with it.

    Where none fits, it is the smallest with one window.
    """
    too_large: list[str] = []
    for compute_type in types:
        sizes = range(load.batch, 0, -1)
        needs = ((batch, load.needed(model, compute_type, batch)) for batch in sizes)
        for batch, needed in needs:
            if free is None or needed <= free:
                return Plan(compute_type, batch, needed, free, tuple(too_large))
        too_large.append(f"{compute_type} ({_size(needed)})")
    return Plan(compute_type, 1, needed, free, tuple(too_large[:-1]))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
