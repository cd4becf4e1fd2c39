"""Converts installed CTranslate2 models back to checkpoints of openai-whisper and Transformers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ct2_directories
import numpy as np

Arrays = dict[str, Any]


def openai_checkpoint(directory: Path) -> dict[str, Any]:
    """The content of a .pt file, with arrays instead of tensors."""
    variables = ct2_directories.read_variables(directory / "model.bin")
    layers = {part: _layers(variables, part) for part in ("encoder", "decoder")}
    embeddings, conv = variables["decoder/embeddings/weight"], variables["encoder/conv1/weight"]
    dims = {"n_mels": conv.shape[1], "n_vocab": len(embeddings), "n_audio_ctx": 1500, "n_text_ctx": 448}
    for part, ct2 in (("audio", "encoder"), ("text", "decoder")):
        heads = int(variables[f"{ct2}/num_heads"])
        dims |= {f"n_{part}_state": len(conv), f"n_{part}_head": heads, f"n_{part}_layer": layers[ct2]}
    state = {"decoder.token_embedding.weight": embeddings}
    state |= _linear(variables, "encoder/conv1", "encoder.conv1") | _linear(variables, "encoder/conv2", "encoder.conv2")
    state |= _norm(variables, "encoder/layer_norm", "encoder.ln_post")
    state |= _norm(variables, "decoder/layer_norm", "decoder.ln")
    for part, count in layers.items():
        state[f"{part}.positional_embedding"] = variables[f"{part}/position_encodings/encodings"]
        for number in range(count):
            state |= _block(variables, f"{part}/layer_{number}", f"{part}.blocks.{number}")
    return {"dims": dims, "model_state_dict": state}


def _layers(variables: Arrays, part: str) -> int:
    return sum(name.startswith(f"{part}/layer_") and name.endswith("/ffn/layer_norm/beta") for name in variables)


def _block(variables: Arrays, ct2: str, openai: str) -> Arrays:
    names = ("query", "key", "value")
    state = _attention(variables, f"{ct2}/self_attention", f"{openai}.attn", [names, ("out",)])
    if f"{ct2}/attention/linear_0/weight" in variables:
        split = [("query",), names[1:], ("out",)]
        state |= _attention(variables, f"{ct2}/attention", f"{openai}.cross_attn", split)
    state |= _linear(variables, f"{ct2}/ffn/linear_0", f"{openai}.mlp.0")
    state |= _linear(variables, f"{ct2}/ffn/linear_1", f"{openai}.mlp.2")
    return state | _norm(variables, f"{ct2}/ffn/layer_norm", f"{openai}.mlp_ln")


def _attention(variables: Arrays, ct2: str, openai: str, linears: list[tuple[str, ...]]) -> Arrays:
    state = _norm(variables, f"{ct2}/layer_norm", f"{openai}_ln")
    for number, names in enumerate(linears):
        fused = _linear(variables, f"{ct2}/linear_{number}", "")
        for kind, array in fused.items():
            parts = zip(names, np.split(array, len(names)), strict=True)
            state |= {f"{openai}.{name}{kind}": part for name, part in parts if name + kind != "key.bias"}
    return state


def _linear(variables: Arrays, ct2: str, openai: str) -> Arrays:
    return {f"{openai}.{kind}": variables[f"{ct2}/{kind}"] for kind in ("weight", "bias")}


def _norm(variables: Arrays, ct2: str, openai: str) -> Arrays:
    return {f"{openai}.weight": variables[f"{ct2}/gamma"], f"{openai}.bias": variables[f"{ct2}/beta"]}


def save(checkpoint: dict[str, Any], file: Path) -> Path:
    import torch

    state = {name: torch.tensor(array) for name, array in checkpoint["model_state_dict"].items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": checkpoint["dims"], "model_state_dict": state}, file)
    return file


_NAMES = {
    "positional_embedding": "embed_positions.weight",
    "token_embedding": "embed_tokens",
    "ln_post": "layer_norm",
    "blocks": "layers",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn": "encoder_attn",
    "attn": "self_attn",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "mlp_ln": "final_layer_norm",
    "mlp": "fc",
    "ln": "layer_norm",
}
_FEED_FORWARD = {"fc.0": "fc1", "fc.2": "fc2"}


def save_for_transformers(checkpoint: dict[str, Any], tokenizer: Path, folder: Path) -> Path:
    """Write a directory as `save_pretrained` does, with the same weights in float16."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    dims = checkpoint["dims"]
    state = {_rename(name): torch.tensor(array) for name, array in checkpoint["model_state_dict"].items()}
    config = WhisperConfig(
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).half()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["proj_out.weight"], [])
    model.save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    return folder


def _rename(name: str) -> str:
    renamed = "model." + ".".join(_NAMES.get(part, part) for part in name.split("."))
    for openai, transformers in _FEED_FORWARD.items():
        renamed = renamed.replace(f".{openai}.", f".{transformers}.")
    return renamed
