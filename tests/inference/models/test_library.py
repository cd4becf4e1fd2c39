from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inference.stand_in_hub import FILES, REPOSITORY, StandInHub, serving_hub, use_hub

from whisper_server.core.errors import ModelIncomplete, ModelNotDeletable, ModelNotFound, ModelUnavailable
from whisper_server.inference.hardware.memory_plan import Dimensions
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES, canonical_name
from whisper_server.inference.models.hub import Download
from whisper_server.inference.models.library import _DIMENSIONS, LibraryModel, ModelLibrary, memory_by_type
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

KNOWN = "tiny"
STORED = sum(len(body) for name, body in FILES.items() if name != "README.md")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[StandInHub]:
    with serving_hub(REPOSITORIES[KNOWN]) as served, use_hub(served.url, tmp_path / "hub"):
        yield served


def library_of(tmp_path: Path, *, offline: bool = False) -> ModelLibrary:
    packages = PackagedModels({"tiny.en": PACKAGES["tiny.en"]}, cache_dir=tmp_path / "joined")
    return ModelLibrary(ModelResolver(models_dir=tmp_path / "models", packages=packages, offline=offline))


def sources(library: ModelLibrary) -> dict[str, str]:
    return {model.id: model.source for model in library.list() if model.source != "hub"}


def test_the_list_has_what_is_on_this_machine_and_what_may_be_downloaded(
    tmp_path: Path, served: StandInHub, linked: Callable[..., Path]
) -> None:
    (tmp_path / "models").mkdir()
    linked(tmp_path / "models" / "mine")
    (tmp_path / "models" / "no-weights").mkdir()
    hub.download(REPOSITORIES[KNOWN])
    served.requests.clear()
    library = library_of(tmp_path)
    assert sources(library) == {"mine": "disk", "tiny.en": "package", KNOWN: "cache"}
    assert [model.id for model in library.list() if model.source == "hub"][:2] == ["base.en", "base"]
    assert {model.id for model in library.list()} == {"mine", *map(canonical_name, REPOSITORIES)}
    assert {model.source for model in library_of(tmp_path, offline=True).list()} == {"disk", "package", "cache"}
    assert served.requests == []


def test_a_model_is_described_from_its_files(tmp_path: Path, weights: Path, linked: Callable[..., Path]) -> None:
    (tmp_path / "models").mkdir()
    (mine,) = library_of(tmp_path, offline=True).describe("mine", linked(tmp_path / "models" / "mine"))
    assert list(library_of(tmp_path, offline=True).describe("gone", tmp_path / "gone")) == []
    assert mine.size == sum(file.stat().st_size for file in weights.iterdir())
    assert mine.dimensions == Dimensions(384, 4, 4, vocabulary=51864)
    assert library_of(tmp_path, offline=True).find("whisper-tiny.en").dimensions == mine.dimensions
    assert memory_by_type(mine.dimensions, on_gpu=False).keys() == {"int8", "float32"}
    assert memory_by_type(mine.dimensions, on_gpu=True).keys() == {"int8", "float16"}
    assert memory_by_type(None, on_gpu=True) == {}


def test_the_size_of_a_download_is_known_before_it(weights: Path) -> None:
    assert _DIMENSIONS.keys() == set(map(canonical_name, REPOSITORIES))
    estimate = _DIMENSIONS["tiny.en"].weight_bytes("float16")
    assert estimate == pytest.approx((weights / "model.bin").stat().st_size, rel=0.01)
    # The size of the file that the hub has.
    assert _DIMENSIONS["large-v3"].weight_bytes("float16") == pytest.approx(3_087_284_237, rel=0.01)


def test_a_pull_reports_its_progress(tmp_path: Path, served: StandInHub) -> None:
    download = Download()
    model = library_of(tmp_path).pull("openai/whisper-tiny", download)
    assert (model.id, model.source, model.size) == (KNOWN, "cache", STORED)
    assert (download.done, download.total) == (STORED, STORED)


def test_what_is_on_this_machine_is_not_pulled(tmp_path: Path, served: StandInHub) -> None:
    library = library_of(tmp_path)
    library.pull(KNOWN, Download())
    served.requests.clear()
    assert library.pull(KNOWN, Download()).source == "cache"
    assert library.pull("tiny.en", Download()).source == "package"
    assert served.requests == []


@pytest.mark.parametrize("name", [REPOSITORY, "whisper-1", "", "../mine", "/etc", "whisper-small-german"])
def test_a_client_cannot_choose_what_is_pulled(tmp_path: Path, served: StandInHub, name: str) -> None:
    with pytest.raises(ModelNotFound, match="known names are tiny.en"):
        library_of(tmp_path).pull(name, Download())
    assert served.requests == []


def test_nothing_is_pulled_offline(tmp_path: Path, served: StandInHub) -> None:
    with pytest.raises(ModelNotFound, match="'tiny' is not on this server, which runs with --offline"):
        library_of(tmp_path, offline=True).pull(KNOWN, Download())
    assert served.requests == []


def test_a_failed_pull_is_not_listed_and_can_be_repeated(tmp_path: Path, served: StandInHub) -> None:
    served.fail_downloads("model.bin", 403)
    library = library_of(tmp_path)
    with pytest.raises(ModelUnavailable):
        library.pull(KNOWN, Download())
    assert KNOWN not in sources(library)
    served.failures.clear()
    assert library.pull(KNOWN, Download()).size == STORED


def test_an_incomplete_repository_is_an_error(tmp_path: Path, served: StandInHub) -> None:
    served.files = {name: body for name, body in FILES.items() if name != "tokenizer.json"}
    with pytest.raises(ModelIncomplete, match="'tiny' is incomplete: it has no tokenizer.json"):
        library_of(tmp_path).pull(KNOWN, Download())


def test_a_cached_model_is_deleted(tmp_path: Path, served: StandInHub) -> None:
    library = library_of(tmp_path)
    library.delete(library.pull(KNOWN, Download()))
    assert KNOWN not in sources(library)
    assert list((tmp_path / "hub").glob("models--*")) == []
    library.pull(KNOWN, Download())


def test_a_converted_model_is_deleted(tmp_path: Path, linked: Callable[..., Path], weights: Path) -> None:
    (tmp_path / "models").mkdir()
    linked(tmp_path / "models" / "mine")
    (tmp_path / "models" / "link").symlink_to(weights)
    library = library_of(tmp_path, offline=True)
    for name in ("mine", "link"):
        library.delete(library.find(name))
    assert list((tmp_path / "models").iterdir()) == []
    assert (weights / "model.bin").is_file()


def test_a_package_is_not_deleted(tmp_path: Path, weights: Path) -> None:
    library = library_of(tmp_path, offline=True)
    with pytest.raises(ModelNotDeletable, match="installed as a Python package"):
        library.delete(library.find("tiny.en"))
    assert (weights / "model.bin").is_file()


def test_a_model_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    gone = LibraryModel("gone", "disk", 1, path=tmp_path / "models" / "gone")
    with pytest.raises(ModelNotDeletable, match="'gone' could not be deleted: No such file") as caught:
        library_of(tmp_path).delete(gone)
    assert str(tmp_path) not in str(caught.value)


def test_what_is_not_here_cannot_be_found(tmp_path: Path, served: StandInHub) -> None:
    for name in (KNOWN, "", "..", "whisper-1", "models", os.sep):
        with pytest.raises(ModelNotFound):
            library_of(tmp_path).find(name)
