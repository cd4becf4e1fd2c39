from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from inference.stand_in_hub import REPOSITORY, StandInHub, serving_hub, use_hub

from whisper_server.core.errors import ModelLoadFailed, ModelNotFound
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES, ModelPackage
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

PACKAGE = "resolver_test_package"
KNOWN = "tiny"
ODD_NAMES = ["", " ", ".", "..", "../..", "a/../..", "a/b/c", "/", "a\0b", "\0", "a\nb", "a" * 300, "ä", "-x", "C:\\x"]


@pytest.fixture
def hub_with_known_model(tmp_path: Path) -> Iterator[StandInHub]:
    with serving_hub(REPOSITORIES[KNOWN]) as served, use_hub(served.url, tmp_path / "hub"):
        yield served


@pytest.fixture
def hub_with_other_model(tmp_path: Path) -> Iterator[StandInHub]:
    with serving_hub(REPOSITORY) as served, use_hub(served.url, tmp_path / "hub"):
        yield served


@pytest.fixture
def installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return _model(tmp_path / "site" / PACKAGE)


def test_a_path_takes_precedence_over_models_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_with_known_model: StandInHub
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path / "models" / KNOWN)
    _model(tmp_path / KNOWN)
    assert _resolver(tmp_path).resolve(KNOWN).resolve() == tmp_path / KNOWN


def test_models_dir_takes_precedence_over_a_package(
    tmp_path: Path, installed_package: Path, hub_with_known_model: StandInHub
) -> None:
    converted = _model(tmp_path / "models" / KNOWN)
    assert _resolver(tmp_path).resolve(KNOWN) == converted


def test_a_package_takes_precedence_over_the_cache(
    tmp_path: Path, installed_package: Path, hub_with_known_model: StandInHub
) -> None:
    hub.download(REPOSITORIES[KNOWN])
    assert _resolver(tmp_path).resolve(KNOWN) == installed_package


def test_the_cache_takes_precedence_over_the_hub(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    cached = hub.download(REPOSITORIES[KNOWN])
    hub_with_known_model.requests.clear()
    assert _resolver(tmp_path).resolve(KNOWN) == cached
    assert hub_with_known_model.requests == []


def test_the_hub_comes_last(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    assert (_resolver(tmp_path).resolve(KNOWN) / "model.bin").is_file()
    assert hub_with_known_model.requests


@pytest.mark.parametrize("method", ["resolve", "resolve_for_client"])
def test_a_model_in_models_dir_is_found_by_any_name(
    method: str, tmp_path: Path, hub_with_other_model: StandInHub
) -> None:
    converted = _model(tmp_path / "models" / "my-own_model.v2")
    assert getattr(_resolver(tmp_path), method)("my-own_model.v2") == converted
    assert hub_with_other_model.requests == []


def test_a_directory_in_models_dir_without_weights_is_skipped(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    (tmp_path / "models" / KNOWN).mkdir(parents=True)
    assert _resolver(tmp_path).resolve(KNOWN) == hub.cached(REPOSITORIES[KNOWN])


def test_a_directory_without_weights_that_is_named_like_a_model_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / KNOWN).mkdir()
    converted = _model(tmp_path / "models" / KNOWN)
    assert _resolver(tmp_path).resolve(KNOWN) == converted


def test_the_operator_may_name_a_directory_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model = _model(tmp_path / "mine")
    assert _resolver(tmp_path).resolve("~/mine") == model


def test_a_directory_without_weights_is_an_error_that_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=rf"{tmp_path} is not a CTranslate2 model: it has no model.bin"):
        _resolver(tmp_path).resolve(str(tmp_path))


def test_the_home_of_an_unknown_user_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        _resolver(tmp_path, offline=True).resolve("~nosuchuser/model")


@pytest.mark.parametrize("offline", [True, False])
def test_an_unknown_bare_name_is_never_requested_from_the_hub(
    offline: bool, tmp_path: Path, hub_with_other_model: StandInHub
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        _resolver(tmp_path, offline=offline).resolve("nosuchmodel")
    assert hub_with_other_model.requests == []
    for location in ("directory nosuchmodel", str(tmp_path / "models" / "nosuchmodel")):
        assert location in str(caught.value)
    for name in REPOSITORIES:
        assert name in str(caught.value)


def test_an_offline_resolver_does_not_contact_the_hub_and_gives_a_hint(
    tmp_path: Path, hub_with_known_model: StandInHub
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        _resolver(tmp_path, offline=True).resolve(KNOWN)
    assert hub_with_known_model.requests == []
    for hint in (str(tmp_path / "models" / KNOWN), REPOSITORIES[KNOWN], "--offline"):
        assert hint in str(caught.value)


def test_an_offline_resolver_uses_the_cache(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    cached = hub.download(REPOSITORIES[KNOWN])
    hub_with_known_model.requests.clear()
    assert _resolver(tmp_path, offline=True).resolve(KNOWN) == cached
    assert hub_with_known_model.requests == []


@pytest.mark.parametrize("name", PACKAGES)
def test_the_error_for_a_missing_model_names_its_package(
    name: str, tmp_path: Path, hub_with_other_model: StandInHub
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        _resolver(tmp_path, offline=True).resolve(name)
    assert f"pip install {PACKAGES[name].install}" in str(caught.value)


def test_the_operator_may_name_any_repository(tmp_path: Path, hub_with_other_model: StandInHub) -> None:
    assert (_resolver(tmp_path).resolve(REPOSITORY) / "model.bin").is_file()


def test_a_repository_that_the_hub_does_not_have_is_not_found(tmp_path: Path, hub_with_other_model: StandInHub) -> None:
    with pytest.raises(ModelNotFound, match="stand-in/nothing"):
        _resolver(tmp_path).resolve("stand-in/nothing")


def test_a_client_gets_a_known_model_from_the_hub(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    assert (_resolver(tmp_path).resolve_for_client(KNOWN) / "model.bin").is_file()


def test_a_client_gets_nothing_from_the_hub_offline(tmp_path: Path, hub_with_known_model: StandInHub) -> None:
    _refused(_resolver(tmp_path, offline=True), KNOWN, tmp_path)
    assert hub_with_known_model.requests == []


def test_a_client_gets_a_package(tmp_path: Path, installed_package: Path) -> None:
    assert _resolver(tmp_path, offline=True).resolve_for_client(KNOWN) == installed_package


def test_a_client_gets_a_repository_that_is_cached(tmp_path: Path, hub_with_other_model: StandInHub) -> None:
    cached = hub.download(REPOSITORY)
    hub_with_other_model.requests.clear()
    assert _resolver(tmp_path).resolve_for_client(REPOSITORY) == cached
    assert hub_with_other_model.requests == []


def test_a_client_cannot_choose_what_is_downloaded(tmp_path: Path, hub_with_other_model: StandInHub) -> None:
    _refused(_resolver(tmp_path), REPOSITORY, tmp_path)
    assert hub_with_other_model.requests == []


def test_a_client_may_not_name_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_with_other_model: StandInHub
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    _model(tmp_path / "secret")
    _model(tmp_path / "folder" / "secret")
    resolver = _resolver(tmp_path)
    names = ["secret", "./secret", "folder/secret", "~/secret", "models/../secret", "../secret"]
    for name in names:
        _refused(resolver, name, tmp_path)
    with pytest.raises(ModelNotFound):
        resolver.resolve_for_client(str(tmp_path / "secret"))
    assert hub_with_other_model.requests == []


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:20])
def test_odd_names_cannot_escape_from_models_dir(name: str, tmp_path: Path, hub_with_other_model: StandInHub) -> None:
    _model(tmp_path)
    _model(tmp_path / "models")
    _refused(_resolver(tmp_path), name, tmp_path)
    assert hub_with_other_model.requests == []


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:20])
def test_odd_names_are_errors_for_the_operator_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_with_other_model: StandInHub
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises((ModelNotFound, ModelLoadFailed)):
        _resolver(tmp_path).resolve(name)
    assert hub_with_other_model.requests == []


def test_the_error_for_a_client_lists_the_known_names(tmp_path: Path) -> None:
    message = _refused(_resolver(tmp_path, offline=True), "nosuchmodel", tmp_path)
    assert all(name in message for name in REPOSITORIES)


def test_the_error_for_an_unwritable_cache_shows_the_client_no_path(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file instead of the cache directory")
    with (
        serving_hub(REPOSITORIES[KNOWN]) as served,
        use_hub(served.url, tmp_path / "hub"),
        pytest.raises(ModelLoadFailed, match="could not be stored") as caught,
    ):
        _resolver(tmp_path).resolve_for_client(KNOWN)
    assert str(tmp_path) not in str(caught.value)


def _resolver(tmp_path: Path, *, offline: bool = False) -> ModelResolver:
    packages = {KNOWN: ModelPackage(install=PACKAGE, files=(f"{PACKAGE}/model.bin",), sha256="")}
    return ModelResolver(
        models_dir=tmp_path / "models",
        packages=PackagedModels(packages, cache_dir=tmp_path / "joined"),
        offline=offline,
    )


def _model(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.bin").write_bytes(b"weights")
    return directory


def _refused(resolver: ModelResolver, name: str, root: Path) -> str:
    """Return the error message after checking that it shows no path of the server."""
    with pytest.raises(ModelNotFound) as caught:
        resolver.resolve_for_client(name)
    assert str(root) not in str(caught.value)
    return str(caught.value)
