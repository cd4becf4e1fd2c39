"""Makes a model of any Whisper architecture with random weights: its speed and memory are real, its text is not.

    python scripts/make_random_model.py large-v3 models/random --quantization int8

Nothing is downloaded. large-v3 takes a minute and 12 GB of memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openai_checkpoints import Checkpoint, OpenAIConverter
from tokenizer_files import ENGLISH, MULTILINGUAL, TIMESTAMPS, byte_letters, special_tokens
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from whisper_server.inference.transcription.languages import NAMES

# Layers of the encoder, layers of the decoder, width, mel bands, tokens
ARCHITECTURES = {
    "tiny.en": (4, 4, 384, 80, ENGLISH),
    "tiny": (4, 4, 384, 80, MULTILINGUAL),
    "base": (6, 6, 512, 80, MULTILINGUAL),
    "small": (12, 12, 768, 80, MULTILINGUAL),
    "medium": (24, 24, 1024, 80, MULTILINGUAL),
    "large-v2": (32, 32, 1280, 80, MULTILINGUAL),
    "large-v3": (32, 32, 1280, 128, MULTILINGUAL + 1),
    "large-v3-turbo": (32, 4, 1280, 128, MULTILINGUAL + 1),
    "distil-large-v3": (32, 2, 1280, 128, MULTILINGUAL + 1),
}
_HEAD_WIDTH = 64
_SPACE = "Ġ"  # what byte-level tokenizers write for a space
_AUDIO_POSITIONS, _TEXT_POSITIONS = 1500, 448


def write_random_model(architecture: str, directory: Path, *, quantization: str) -> Path:
    """Write a CTranslate2 model to a directory that does not exist yet, and return it."""
    encoder, decoder, width, mels, tokens = ARCHITECTURES[architecture]
    heads = width // _HEAD_WIDTH
    dims = {"n_audio_layer": encoder, "n_audio_head": heads, "n_text_layer": decoder, "n_text_head": heads}
    dims |= {"n_mels": mels, "n_vocab": tokens}
    weights = dict(_weights(encoder, decoder, width, mels, tokens))
    converter = OpenAIConverter(Checkpoint(architecture, dims, weights), make_tokenizer(tokens))
    return Path(converter.convert(str(directory), quantization=quantization))


def make_tokenizer(size: int) -> Tokenizer:
    """Return a tokenizer with the special tokens of a vocabulary of this size. Its other tokens are bytes and numbers.

    As the text means nothing, no real vocabulary is needed.
    """
    special = special_tokens(code for code in NAMES if code != "yue" or size > MULTILINGUAL)
    tokens = [*byte_letters().values()]
    tokens += [f"{_SPACE}{number}" for number in range(size - TIMESTAMPS - len(special) - len(tokens))]
    if size >= MULTILINGUAL:
        tokens[-1] = ""  # CTranslate2 recognises multilingual models by it
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _weights(
    encoder: int, decoder: int, width: int, mels: int, tokens: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the arrays of openai-whisper's state dict: numbers with a standard deviation of 0.02, norms of 1."""
    generator = np.random.default_rng(0)

    def random(*shape: int) -> NDArray[np.float32]:
        return generator.standard_normal(shape, np.float32) * np.float32(0.02)

    def linear(name: str, *shape: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", random(*shape)
        yield f"{name}.bias", np.zeros(shape[0], np.float32)

    def norm(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", np.ones(width, np.float32)
        yield f"{name}.bias", np.zeros(width, np.float32)

    yield from linear("encoder.conv1", width, mels, 3)
    yield from linear("encoder.conv2", width, width, 3)
    yield from [*norm("encoder.ln_post"), *norm("decoder.ln")]
    yield "encoder.positional_embedding", random(_AUDIO_POSITIONS, width)
    yield "decoder.positional_embedding", random(_TEXT_POSITIONS, width)
    yield "decoder.token_embedding.weight", random(tokens, width)
    for part, layers, attentions in (("encoder", encoder, ["attn"]), ("decoder", decoder, ["attn", "cross_attn"])):
        for block in (f"{part}.blocks.{layer}" for layer in range(layers)):
            for attention in attentions:
                yield from norm(f"{block}.{attention}_ln")
                for projection in ("query", "key", "value", "out"):
                    yield from linear(f"{block}.{attention}.{projection}", width, width)
            yield from norm(f"{block}.mlp_ln")
            yield from linear(f"{block}.mlp.0", 4 * width, width)
            yield from linear(f"{block}.mlp.2", width, 4 * width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("directory", type=Path, help="must not exist yet")
    parser.add_argument("--quantization", default="int8", help="a compute type of CTranslate2")
    arguments = parser.parse_args()
    print(write_random_model(arguments.architecture, arguments.directory, quantization=arguments.quantization))


if __name__ == "__main__":
    main()
