"""Installed models as openai-whisper and Transformers have them: the same weights, taken apart again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ct2_directories
import numpy as np

Arrays = dict[str, Any]


def openai_checkpoint(directory: Path) -> dict[str, Any]:
    """What openai-whisper's load_model() reads, with arrays instead of tensors."""
    variables = ct2_directories.read_variables(directory / "model.bin")
    layers = {part: _layers(variables, part) for part in ("encoder", "decoder")}
    embeddings, conv = variables["decoder/embeddings/weight"], variables["encoder/conv1/weight"]
    dims = {"n_mels": conv.shape[1], "n_vocab": len(embeddings), "n_audio_ctx": 1500, "n_text_ctx": 448}
    for part, ours in (("audio", "encoder"), ("text", "decoder")):
        heads = int(variables[f"{ours}/num_heads"])
        dims |= {f"n_{part}_state": len(conv), f"n_{part}_head": heads, f"n_{part}_layer": layers[ours]}
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


def _block(variables: Arrays, ours: str, theirs: str) -> Arrays:
    names = ("query", "key", "value")
    state = _attention(variables, f"{ours}/self_attention", f"{theirs}.attn", [names, ("out",)])
    if f"{ours}/attention/linear_0/weight" in variables:
        split = [("query",), names[1:], ("out",)]
        state |= _attention(variables, f"{ours}/attention", f"{theirs}.cross_attn", split)
    state |= _linear(variables, f"{ours}/ffn/linear_0", f"{theirs}.mlp.0")
    state |= _linear(variables, f"{ours}/ffn/linear_1", f"{theirs}.mlp.2")
    return state | _norm(variables, f"{ours}/ffn/layer_norm", f"{theirs}.mlp_ln")


def _attention(variables: Arrays, ours: str, theirs: str, linears: list[tuple[str, ...]]) -> Arrays:
    state = _norm(variables, f"{ours}/layer_norm", f"{theirs}_ln")
    for number, names in enumerate(linears):
        fused = _linear(variables, f"{ours}/linear_{number}", "")
        for kind, array in fused.items():
            parts = zip(names, np.split(array, len(names)), strict=True)
            state |= {f"{theirs}.{name}{kind}": part for name, part in parts if name + kind != "key.bias"}
    return state


def _linear(variables: Arrays, ours: str, theirs: str) -> Arrays:
    return {f"{theirs}.{kind}": variables[f"{ours}/{kind}"] for kind in ("weight", "bias")}


def _norm(variables: Arrays, ours: str, theirs: str) -> Arrays:
    return {f"{theirs}.weight": variables[f"{ours}/gamma"], f"{theirs}.bias": variables[f"{ours}/beta"]}


def save(checkpoint: dict[str, Any], file: Path) -> Path:
    import torch

    state = {name: torch.tensor(array) for name, array in checkpoint["model_state_dict"].items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": checkpoint["dims"], "model_state_dict": state}, file)
    return file


_RENAMED = {
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
    """A directory as `save_pretrained` makes it, with the same weights in float16."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    dims = checkpoint["dims"]
    state = {_renamed(name): torch.tensor(array) for name, array in checkpoint["model_state_dict"].items()}
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
    missing, unknown = model.load_state_dict(state, strict=False)
    assert (missing, unknown) == (["proj_out.weight"], [])
    model.save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    return folder


def _renamed(name: str) -> str:
    renamed = "model." + ".".join(_RENAMED.get(part, part) for part in name.split("."))
    for ours, theirs in _FEED_FORWARD.items():
        renamed = renamed.replace(f".{ours}.", f".{theirs}.")
    return renamed
