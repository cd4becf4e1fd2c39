from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import openai_checkpoint
from ct2_directories import read_variables
from openai_checkpoints import Checkpoint, OpenAIConverter
from tokenizers import Tokenizer

from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels

SMALL = {"n_text_layer": 4, "n_text_head": 6}


@pytest.fixture(scope="module")
def installed() -> Path:
    directory = PackagedModels(PACKAGES, cache_dir=Path()).find("tiny.en")
    assert directory is not None
    return directory


def test_conversion_keeps_weights_and_configuration(installed: Path, tmp_path: Path) -> None:
    content = openai_checkpoint(installed)
    checkpoint = Checkpoint("tiny.en", content["dims"], content["model_state_dict"])
    tokenizer = Tokenizer.from_file(str(installed / "tokenizer.json"))
    converter = OpenAIConverter(checkpoint, tokenizer)
    converted = Path(converter.convert(str(tmp_path / "converted"), quantization="float16"))
    variables, expected = (read_variables(folder / "model.bin") for folder in (converted, installed))
    assert [name for name, value in expected.items() if not np.array_equal(value, variables[name])] == []
    assert {value.dtype for name, value in variables.items() if name.endswith("/weight")} == {np.dtype(np.float16)}
    config, expected_config = (json.loads((folder / "config.json").read_text()) for folder in (converted, installed))
    for name in ("alignment_heads", "suppress_ids", "suppress_ids_begin"):
        assert config[name] == expected_config[name]
    tokens = json.loads((converted / "vocabulary.json").read_text())
    assert tokens == (installed / "vocabulary.txt").read_text().removesuffix("\n").split("\n")
    assert [tokens[config["lang_ids"][i]] for i in (0, -1)] == ["<|en|>", "<|su|>"]
    assert json.loads((converted / "preprocessor_config.json").read_text())["feature_size"] == 80


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("tiny.en", [(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]),
        ("my-own", [(layer, head) for layer in (2, 3) for head in range(6)]),
        ("large-v3", [(layer, head) for layer in (2, 3) for head in range(6)]),
    ],
    ids=["known", "unknown", "other dimensions than the known one"],
)
def test_alignment_heads_depend_on_name_and_dimensions(name: str, heads: list[tuple[int, int]]) -> None:
    assert Checkpoint(name, SMALL, {}).alignment_heads == heads


@pytest.mark.parametrize("name", ["large-v1", "large-v2", "large-v3", "large-v3-turbo", "medium", "small.en"])
def test_known_large_models_have_few_alignment_heads(name: str) -> None:
    dims = {"n_text_layer": 32, "n_text_head": 20}
    assert len(Checkpoint(name, dims, {}).alignment_heads) < 32


@pytest.mark.parametrize("content", [{"weights": 1}, [1]])
def test_a_file_that_is_not_a_checkpoint_is_refused(content: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of openai-whisper"):
        Checkpoint.read(tmp_path / "other.pt")


def test_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([1.0, -3.140625], dtype=torch.bfloat16)
    torch.save({"dims": {}, "model_state_dict": {"a": tensor}}, tmp_path / "a.pt")
    assert Checkpoint.read(tmp_path / "a.pt").weights["a"].tolist() == [1.0, -3.140625]
