"""openai-whisper's checkpoints (the .pt files in ~/.cache/whisper) as models of CTranslate2.

A checkpoint has the weights and their dimensions. The tokenizer comes from elsewhere (tokenizer_files.py), and the
heads that words are aligned with are known by the checkpoint's name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.converters import transformers as known
from ctranslate2.converters.converter import Converter
from ctranslate2.specs import WhisperSpec
from faster_whisper.tokenizer import Tokenizer as Suppressed
from tokenizers import Tokenizer

TIMESTAMPS = 1501
# CTranslate2 does not know these.
ALIGNMENT_HEADS = {"large-v3-turbo": [(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)]}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    name: str
    dims: Mapping[str, int]
    weights: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Raises ValueError if the file is something else; never runs what a file may carry."""
        import torch  # takes seconds

        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= content.keys():
            raise ValueError(f"{path} is no checkpoint of openai-whisper: it has no dims and model_state_dict")
        tensors = content["model_state_dict"].items()
        return cls(path.stem, content["dims"], {name: _array(tensor) for name, tensor in tensors})

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """Layer and head; for a checkpoint that nobody knows, the upper half, as openai-whisper takes it."""
        layers, heads = self.dims["n_text_layer"], self.dims["n_text_head"]
        found = ALIGNMENT_HEADS.get(self.name) or _known_heads(self.name)
        if found and all(layer < layers and head < heads for layer, head in found):
            return found
        return list(itertools.product(range(layers // 2, layers), range(heads)))


def _array(tensor: Any) -> Any:
    """numpy has no bfloat16, and all of its numbers are float32 numbers, too."""
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _known_heads(name: str) -> list[tuple[int, int]]:
    name = {"large-v1": "large"}.get(name, name)
    return list(getattr(known, "_WHISPER_ALIGNMENT_HEADS", {}).get(f"openai/whisper-{name}", ()))


class OpenAIConverter(Converter):
    """CTranslate2 validates, quantizes and writes what `_load` returns."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer

    def convert(self, output_dir: str, *arguments: Any, **options: Any) -> str:
        """Write the model, its tokenizer and what the features are like."""
        made = super().convert(output_dir, *arguments, **options)
        self._tokenizer.save(str(Path(made) / "tokenizer.json"))
        features = json.dumps(_features(self._checkpoint.dims["n_mels"]), indent=2) + "\n"
        (Path(made) / "preprocessor_config.json").write_text(features, encoding="utf-8")
        return made

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
    """Fills the parts of a specification from the modules of a checkpoint."""

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
        """Several are one above the other; keys have no bias."""
        weights = [self._arrays[f"{module}.weight"] for module in modules]
        none = [np.zeros(len(weight), weight.dtype) for weight in weights]
        biases = [self._arrays.get(f"{module}.bias", zero) for module, zero in zip(modules, none, strict=True)]
        spec.weight, spec.bias = np.concatenate(weights), np.concatenate(biases)

    def _norm(self, spec: Any, module: str) -> None:
        spec.gamma, spec.beta = self._arrays[f"{module}.weight"], self._arrays[f"{module}.bias"]


def _vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    """All tokens by number: tokenizers often have none of the timestamps."""
    tokens = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    return tokens + [f"<|{number * 0.02:.2f}|>" for number in range(TIMESTAMPS)][: size - len(tokens)]


def _config(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """What openai-whisper never samples, never samples first, and the tokens of languages."""
    said = Suppressed(tokenizer, multilingual=False)
    never = {said.sot, said.translate, said.transcribe, said.sot_lm, said.sot_prev, said.no_speech}
    return {
        "suppress_ids": sorted(never.union(said.non_speech_tokens)),
        "suppress_ids_begin": [*said.encode(" "), said.eot],
        "lang_ids": [*range(said.sot + 1, said.translate)],
    }


def _features(mels: int) -> dict[str, Any]:
    """The preprocessor_config.json of all Whisper models, which differ in the number of mels only."""
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
