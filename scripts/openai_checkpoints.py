"""Converts openai-whisper's checkpoints (the .pt files in ~/.cache/whisper) to CTranslate2 models.

A checkpoint has the weights and their dimensions. tokenizer_files.py provides the tokenizer, and the alignment heads
for word timestamps depend on the checkpoint's name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.converters import transformers as transformers_converter
from ctranslate2.converters.converter import Converter
from ctranslate2.specs import WhisperSpec
from faster_whisper.tokenizer import Tokenizer as WhisperTokenizer
from tokenizers import Tokenizer

TIMESTAMPS = 1501
# Models that CTranslate2's table lacks
ALIGNMENT_HEADS = {"large-v3-turbo": [(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)]}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    name: str
    dims: Mapping[str, int]
    weights: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Raises ValueError if the file is not a checkpoint. Loads weights only, so code in the file is never run."""
        import torch  # takes seconds

        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= content.keys():
            raise ValueError(f"{path} is not a checkpoint of openai-whisper: it has no dims and model_state_dict")
        tensors = content["model_state_dict"].items()
        return cls(path.stem, content["dims"], {name: _array(tensor) for name, tensor in tensors})

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """Return pairs of layer and head; for an unknown checkpoint the upper half of all layers, as openai-whisper."""
        layers, heads = self.dims["n_text_layer"], self.dims["n_text_head"]
        alignment_heads = ALIGNMENT_HEADS.get(self.name) or _table_heads(self.name)
        if alignment_heads and all(layer < layers and head < heads for layer, head in alignment_heads):
            return alignment_heads
        return list(itertools.product(range(layers // 2, layers), range(heads)))


def _array(tensor: Any) -> Any:
    """numpy has no bfloat16; float32 represents all of its values exactly."""
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _table_heads(name: str) -> list[tuple[int, int]]:
    name = {"large-v1": "large"}.get(name, name)
    return list(getattr(transformers_converter, "_WHISPER_ALIGNMENT_HEADS", {}).get(f"openai/whisper-{name}", ()))


class OpenAIConverter(Converter):  # type: ignore[misc]
    """The base class validates, quantizes and writes what `_load` returns."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer

    def convert(self, output_dir: str, *arguments: Any, **options: Any) -> str:
        """Write the model, its tokenizer and the configuration of its feature extractor; return the directory."""
        directory: str = super().convert(output_dir, *arguments, **options)
        self._tokenizer.save(str(Path(directory) / "tokenizer.json"))
        features = json.dumps(_features(self._checkpoint.dims["n_mels"]), indent=2) + "\n"
        (Path(directory) / "preprocessor_config.json").write_text(features, encoding="utf-8")
        return directory

    def _load(self) -> WhisperSpec:
        dims = self._checkpoint.dims
        spec = WhisperSpec(*(dims[f"n_{part}_{what}"] for part in ("audio", "text") for what in ("layer", "head")))
        _Weights(self._checkpoint.weights).fill(spec)
        spec.register_vocabulary(_vocabulary(self._tokenizer, dims["n_vocab"]))
        for name, value in _config(self._tokenizer).items():
            spec.config.add_attribute(name, value)
        spec.config.alignment_heads = self._checkpoint.alignment_heads
        return spec


class _Weights:
    """Copies the arrays of a checkpoint's modules into a model specification."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays

    def fill(self, spec: WhisperSpec) -> None:
        for conv in ("conv1", "conv2"):
            self._linear(getattr(spec.encoder, conv), f"encoder.{conv}")
        self._norm(spec.encoder.layer_norm, "encoder.ln_post")
        self._norm(spec.decoder.layer_norm, "decoder.ln")
        for part in ("encoder", "decoder"):
            getattr(spec, part).position_encodings.encodings = self._arrays[f"{part}.positional_embedding"]
            for number, layer in enumerate(getattr(spec, part).layer):
                self._layer(layer, f"{part}.blocks.{number}")
        tokens = self._arrays["decoder.token_embedding.weight"]
        spec.decoder.embeddings.weight = spec.decoder.projection.weight = tokens

    def _layer(self, spec: Any, block: str) -> None:
        self._attention(spec.self_attention, f"{block}.attn", [("query", "key", "value"), ("out",)])
        if hasattr(spec, "attention"):
            self._attention(spec.attention, f"{block}.cross_attn", [("query",), ("key", "value"), ("out",)])
        self._linear(spec.ffn.linear_0, f"{block}.mlp.0")
        self._linear(spec.ffn.linear_1, f"{block}.mlp.2")
        self._norm(spec.ffn.layer_norm, f"{block}.mlp_ln")

    def _attention(self, spec: Any, module: str, projections: list[tuple[str, ...]]) -> None:
        for linear, names in zip(spec.linear, projections, strict=True):
            self._linear(linear, *(f"{module}.{name}" for name in names))
        self._norm(spec.layer_norm, f"{module}_ln")

    def _linear(self, spec: Any, *modules: str) -> None:
        """Several modules are stacked into one layer. Keys have no bias, so they get zeros."""
        weights = [self._arrays[f"{module}.weight"] for module in modules]
        zeros = [np.zeros(len(weight), weight.dtype) for weight in weights]
        biases = [self._arrays.get(f"{module}.bias", zero) for module, zero in zip(modules, zeros, strict=True)]
        spec.weight, spec.bias = np.concatenate(weights), np.concatenate(biases)

    def _norm(self, spec: Any, module: str) -> None:
        spec.gamma, spec.beta = self._arrays[f"{module}.weight"], self._arrays[f"{module}.bias"]


def _vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    """Return all tokens in the order of their ids; timestamps are added if the tokenizer lacks them."""
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return tokens + [f"<|{number * 0.02:.2f}|>" for number in range(TIMESTAMPS)][: size - len(tokens)]


def _config(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The tokens that openai-whisper never samples, those that it never samples first, and the languages."""
    whisper = WhisperTokenizer(tokenizer, multilingual=False)
    suppressed = {
        whisper.sot,
        whisper.translate,
        whisper.transcribe,
        whisper.sot_lm,
        whisper.sot_prev,
        whisper.no_speech,
    }
    return {
        "suppress_ids": sorted(suppressed.union(whisper.non_speech_tokens)),
        "suppress_ids_begin": [*whisper.encode(" "), whisper.eot],
        "lang_ids": [*range(whisper.sot + 1, whisper.translate)],
    }


def _features(mels: int) -> dict[str, Any]:
    """The preprocessor_config.json of Whisper models, which differ only in the number of mel bands."""
    return {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": mels,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16_000,
    }
