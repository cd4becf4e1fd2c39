"""Reads CTranslate2 model directories, so that they can be quantized without the original checkpoint."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ctranslate2.converters.converter import Converter
from ctranslate2.specs import WhisperSpec
from ctranslate2.specs.model_spec import CURRENT_BINARY_VERSION, index_spec

# The index is the type number in model.bin. numpy has no bfloat16, which is the upper half of a float32.
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)
BFLOAT16 = DTYPES.index(np.uint16)
COMPANIONS = ("tokenizer.json", "preprocessor_config.json")


class DirectoryConverter(Converter):  # type: ignore[misc]
    """The base class validates, quantizes and writes what `_load` returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _load(self) -> WhisperSpec:
        """Raises ValueError if the model is not a Whisper model, or is already quantized."""
        variables = read_variables(self._directory / "model.bin")
        if any(name.endswith("/weight_scale") for name in variables):
            raise ValueError(f"{self._directory} is already quantized; use a model in float16 or float32")
        spec = WhisperSpec(*_shape(variables))
        for name, value in variables.items():
            scope, _, attribute = name.rpartition("/")
            setattr(index_spec(spec, scope), attribute, value)
        spec.register_vocabulary(_vocabulary(self._directory))
        for name, value in json.loads((self._directory / "config.json").read_text(encoding="utf-8")).items():
            spec.config.add_attribute(name, value)
        for name in COMPANIONS:
            if (self._directory / name).is_file():
                spec.register_file(str(self._directory / name))
        return spec


def read_variables(path: Path) -> dict[str, Any]:
    """Return the arrays and scalars of a model.bin by name; an array with two names is there twice.

    Raises ValueError if the file has another format.
    """
    with path.open("rb") as file:
        version, kind, _ = _read_number(file, "<I"), _read_string(file), _read_number(file, "<I")
        if kind != "WhisperSpec" or version > CURRENT_BINARY_VERSION:
            raise ValueError(f"{path} is not a Whisper model that this version of CTranslate2 can read")
        variables = dict(_read_variable(file) for _ in range(_read_number(file, "<I")))
        aliases = [(_read_string(file), _read_string(file)) for _ in range(_read_number(file, "<I"))]
    return variables | {alias: variables[name] for alias, name in aliases}


def _read_variable(file: BinaryIO) -> tuple[str, Any]:
    name = _read_string(file)
    shape = [_read_number(file, "<I") for _ in range(_read_number(file, "<B"))]
    kind, size = _read_number(file, "<B"), _read_number(file, "<I")
    # A bytearray, as CTranslate2 quantizes in place and needs a writable array.
    array = np.frombuffer(bytearray(file.read(size)), DTYPES[kind]).reshape(shape)
    if kind == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return name, array if shape else array[()]


def _read_number(file: BinaryIO, form: str) -> int:
    (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return int(number)


def _read_string(file: BinaryIO) -> str:
    return file.read(_read_number(file, "<H"))[:-1].decode()


def _shape(variables: Mapping[str, Any]) -> list[int]:
    """Return the layers and heads of the encoder, then those of the decoder."""
    shape = []
    for part in ("encoder", "decoder"):
        layers = {match[1] for name in variables if (match := re.match(rf"{part}/layer_(\d+)/", name))}
        shape += [len(layers), int(variables[f"{part}/num_heads"])]
    return shape


def _vocabulary(directory: Path) -> list[str]:
    """Older directories have a text file with one token on each line."""
    if (file := directory / "vocabulary.json").is_file():
        tokens: list[str] = json.loads(file.read_text(encoding="utf-8"))
        return tokens
    return (directory / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
