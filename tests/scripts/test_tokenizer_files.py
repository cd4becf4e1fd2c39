from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
import tokenizer_files
from tokenizers import Tokenizer

from whisper_server.core.settings import cache_dir
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels


def _installed_tokenizer(name: str) -> Path:
    directory = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages").find(name)
    assert directory is not None
    return directory / "tokenizer.json"


def test_merges_are_reconstructed_from_ranks() -> None:
    """Each token is split into the two tokens that were merged into it."""
    ranks = {token: rank for rank, token in enumerate([b"a", b"b", b"c", b"ab", b"abc", b"ba", b"abab", b"babc"])}
    merges = [(b"a", b"b"), (b"ab", b"c"), (b"b", b"a"), (b"ab", b"ab"), (b"b", b"abc")]
    assert list(tokenizer_files.find_merges(ranks)) == merges


def test_every_byte_has_a_letter_of_its_own() -> None:
    letters = tokenizer_files.byte_letters()
    assert sorted(letters) == list(range(256))
    assert len(set(letters.values())) == 256
    assert (letters[ord("a")], letters[ord(" ")], letters[0xAD]) == ("a", "Ġ", "Ń")


def test_a_tiktoken_file_is_parsed() -> None:
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate([b"a", b"\x00\xff"]))
    assert tokenizer_files.read_ranks(lines) == {b"a": 0, b"\x00\xff": 1}


@pytest.mark.parametrize(("size", "name"), [(51864, "tiny.en"), (51865, "base")])
def test_openai_whispers_files_make_the_installed_tokenizer(size: int, name: str) -> None:
    whisper = pytest.importorskip("whisper")
    built = tokenizer_files.build(size, Path(whisper.__file__).parent)
    expected = Tokenizer.from_file(str(_installed_tokenizer(name)))
    assert tokenizer_files.fits(built, size)
    model, expected_model = (json.loads(tokenizer.to_str())["model"] for tokenizer in (built, expected))
    assert model["merges"] == expected_model["merges"]
    assert model["vocab"].items() <= expected_model["vocab"].items()
    text = "Näive café — “don’t” 日本語 1,250 ♪♪ 🙂  two  spaces"
    encoded = built.encode(text, add_special_tokens=False).ids
    assert encoded == expected.encode(text, add_special_tokens=False).ids
    assert built.decode(encoded) == text
    special = ("<|endoftext|>", "<|startoftranscript|>", "<|de|>", "<|su|>", "<|notimestamps|>")
    assert [built.token_to_id(token) for token in special] == [expected.token_to_id(token) for token in special]


def test_large_v3_has_one_more_language() -> None:
    whisper = pytest.importorskip("whisper")
    built = tokenizer_files.build(51866, Path(whisper.__file__).parent)
    assert built.token_to_id("<|yue|>") == 50358
    assert tokenizer_files.fits(built, 51866)


def test_a_model_in_the_models_directory_comes_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    content = json.loads(_installed_tokenizer("tiny.en").read_text())
    content["truncation"] = {"max_length": 7, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    (mine / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = tokenizer_files.find_tokenizer(51864, tmp_path)
    assert tokenizer.truncation is not None


def test_a_tokenizer_of_another_vocabulary_is_skipped(tmp_path: Path) -> None:
    shutil.copytree(
        _installed_tokenizer("tiny.en").parent, tmp_path / "english", ignore=shutil.ignore_patterns("model.bin")
    )
    assert tokenizer_files.fits(tokenizer_files.find_tokenizer(51865, tmp_path), 51865)


def test_an_unknown_vocabulary_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Whisper model has 7 tokens"):
        tokenizer_files.find_tokenizer(7, tmp_path)
