"""Provides tokenizers for checkpoints without one: from this machine, from openai-whisper's files, or from the hub.

All Whisper models use one of three vocabularies: English, multilingual, or multilingual with a hundredth language.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from whisper_server.core.settings import cache_dir
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES
from whisper_server.inference.models.packages import PackagedModels

ENGLISH, MULTILINGUAL, TIMESTAMPS = 51864, 51865, 1501
# The smallest model of each vocabulary on the hub; only its tokenizer is downloaded, 2 MB.
SMALLEST = {ENGLISH: "openai/whisper-tiny.en", MULTILINGUAL: "openai/whisper-tiny", 51866: "openai/whisper-large-v3"}


def find_tokenizer(size: int, models_dir: Path) -> Tokenizer:
    """Return the tokenizer of a vocabulary of this size.

    Searches the models on this machine, then an installed openai-whisper, then the Hugging Face hub. Raises ValueError
    if none of them has it.
    """
    if size not in SMALLEST:
        raise ValueError(f"no Whisper model has {size} tokens, so there is no tokenizer for this checkpoint")
    for file in _local_files(models_dir):
        if fits(tokenizer := Tokenizer.from_file(str(file)), size):
            return tokenizer
    if (package := find_spec("whisper")) is not None and package.origin:
        return build(size, Path(package.origin).parent)
    try:
        return Tokenizer.from_file(huggingface_hub.hf_hub_download(SMALLEST[size], "tokenizer.json"))
    except Exception as exc:  # the hub's libraries raise many unrelated exceptions
        raise ValueError(
            f"no tokenizer with {size} tokens: no model on this machine has one, and it could not be downloaded; "
            "pip install openai-whisper, which includes one"
        ) from exc


def fits(tokenizer: Tokenizer, size: int) -> bool:
    """Return whether timestamps are the last tokens when the vocabulary has this size."""
    return tokenizer.token_to_id("<|notimestamps|>") == size - TIMESTAMPS - 1


def _local_files(models_dir: Path) -> Iterator[Path]:
    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    folders = [*sorted(models_dir.glob("*")), *map(packages.find, PACKAGES)]
    for folder in (*folders, *map(hub.cached, REPOSITORIES.values()), *map(_hub_directory, SMALLEST.values())):
        if folder is not None and (folder / "tokenizer.json").is_file():
            yield folder / "tokenizer.json"


def _hub_directory(repository: str) -> Path | None:
    """The directory of a tokenizer that Transformers or an earlier conversion has downloaded."""
    try:
        return Path(huggingface_hub.hf_hub_download(repository, "tokenizer.json", local_files_only=True)).parent
    except LocalEntryNotFoundError:
        return None


def build(size: int, package: Path) -> Tokenizer:
    """Return the tokenizer that openai-whisper's package defines by `assets/*.tiktoken` and a list of languages."""
    from whisper.tokenizer import LANGUAGES

    file = "gpt2.tiktoken" if size == ENGLISH else "multilingual.tiktoken"
    ranks = read_ranks((package / "assets" / file).read_bytes())
    tokenizer = _byte_pairs(ranks)
    # There are 8 special tokens besides the languages and the timestamps.
    languages = [*LANGUAGES][: size - TIMESTAMPS - 8 - len(ranks)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special_tokens(languages)])
    if not fits(tokenizer, size):
        raise ValueError(f"openai-whisper's files in {package} do not make a vocabulary of {size} tokens")
    return tokenizer


def read_ranks(lines: bytes) -> dict[bytes, int]:
    """Parse a tiktoken file: each line is a token in base64 and its rank."""
    pairs = (line.split() for line in lines.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _byte_pairs(ranks: Mapping[bytes, int]) -> Tokenizer:
    letter = byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letter[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    merges = [(spell(left), spell(right)) for left, right in find_merges(ranks)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_letters() -> dict[int, str]:
    """The visible character that represents each byte in tokenizer.json: itself, or one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in visible)
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


def find_merges(ranks: Mapping[bytes, int]) -> Iterable[tuple[bytes, bytes]]:
    """Yield the pair that is merged into each token, by rank: the two parts that merges of lower ranks leave."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = _merge([token[i : i + 1] for i in range(len(token))], ranks, rank)
        if len(parts) == 2:
            yield parts[0], parts[1]


def _merge(parts: list[bytes], ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    while len(parts) > 1:
        pairs = [ranks.get(left + right, limit) for left, right in zip(parts, parts[1:], strict=False)]
        first = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[first] >= limit:
            break
        parts = [*parts[:first], parts[first] + parts[first + 1], *parts[first + 2 :]]
    return parts


def special_tokens(languages: Iterable[str]) -> list[str]:
    names = ["endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev"]
    return [f"<|{name}|>" for name in (*names, "nospeech", "notimestamps")]
