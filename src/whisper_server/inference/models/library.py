"""The models that could be served: those on this machine, and those that a client may download."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

from whisper_server.core.errors import ModelNotDeletable, ModelNotFound
from whisper_server.inference.hardware.memory_plan import Dimensions, MemoryEstimator
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import NAMES_OF_REPOSITORIES, REPOSITORIES, canonical_name
from whisper_server.inference.models.hub import Download
from whisper_server.inference.models.resolver import BARE_NAME, ModelResolver, check_complete

Source: TypeAlias = Literal["disk", "cache", "package", "hub"]

# The dimensions of models that are not on this machine.
_DIMENSIONS: Mapping[str, Dimensions] = {
    **dict.fromkeys(("tiny", "tiny.en"), Dimensions(384, 4, 4)),
    **dict.fromkeys(("base", "base.en"), Dimensions(512, 6, 6)),
    **dict.fromkeys(("small", "small.en"), Dimensions(768, 12, 12)),
    **dict.fromkeys(("medium", "medium.en"), Dimensions(1024, 24, 24)),
    **dict.fromkeys(("large-v1", "large-v2"), Dimensions(1280, 32, 32)),
    "large-v3": Dimensions(1280, 32, 32, vocabulary=51866, mels=128),
    "large-v3-turbo": Dimensions(1280, 32, 4, vocabulary=51866, mels=128),
    "distil-small.en": Dimensions(768, 12, 4),
    "distil-medium.en": Dimensions(1024, 24, 2),
    "distil-large-v2": Dimensions(1280, 32, 2),
    **dict.fromkeys(("distil-large-v3", "distil-large-v3.5"), Dimensions(1280, 32, 2, vocabulary=51866, mels=128)),
}
# The compute types whose memory is listed: the default and the most exact one of each kind of device.
_TYPES: Mapping[bool, tuple[str, str]] = {False: ("int8", "float32"), True: ("int8", "float16")}


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A model that could be served, and where it is.

    `size` is in bytes, for the hub that of the weights; `created` is in seconds since 1970, 0 for the hub. `path` is
    what deleting the model would remove, if it may be deleted at all.
    """

    id: str
    source: Source
    size: int
    created: int = 0
    dimensions: Dimensions | None = None
    path: Path | None = None

    def has(self, directory: Path) -> bool:
        """Whether deleting the model would remove files of that directory, which may be a link."""
        return self.path is not None and directory.resolve().is_relative_to(self.path.resolve())

    def check_deletable(self) -> None:
        """Raise ModelNotDeletable for an installed package."""
        if self.path is None:
            reason = "it is installed as a Python package, which pip uninstall removes"
            raise ModelNotDeletable(f"model {self.id!r} is not deleted: {reason}")


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    resolver: ModelResolver

    def list(self) -> list[LibraryModel]:
        """Return each model once, from where the resolver would take it. Reads directories, but sends no request."""
        models: dict[str, LibraryModel] = {}
        for model in chain(self._on_disk(), self._packaged(), _cached(), self._downloadable()):
            models.setdefault(model.id, model)
        return list(models.values())

    def find(self, name: str) -> LibraryModel:
        """Return the model on this machine with that name, in any spelling; raises ModelNotFound."""
        models = {model.id: model for model in self.list() if model.source != "hub"}
        model = models.get(name) or models.get(canonical_name(name))
        if model is None:
            raise ModelNotFound(f"there are no files of model {name!r} on this server")
        return model

    def pull(self, name: str, download: Download) -> LibraryModel:
        """Make sure that a model that a client names is on this machine, and return it.

        Raises ModelNotFound, ModelUnavailable, ModelLoadFailed (disk errors), ModelIncomplete or Cancelled.
        """
        directory = self.resolver.resolve_for_client(name, download)
        check_complete(name, directory)
        return self.find(name)

    def delete(self, model: LibraryModel) -> None:
        """Delete the files of a model; raises ModelNotDeletable."""
        model.check_deletable()
        assert model.path is not None
        try:
            if model.source == "cache":
                hub.delete_cached(REPOSITORIES.get(model.id, model.id))
            else:
                _remove(model.path)
        except OSError as exc:
            reason = exc.strerror or exc
            raise ModelNotDeletable(f"the files of model {model.id!r} could not be deleted: {reason}") from exc

    def describe(self, id: str, directory: Path, path: Path | None = None) -> Iterator[LibraryModel]:
        """Yield the model in a directory, unless that is gone."""
        with suppress(OSError):
            files = [file for file in directory.iterdir() if file.is_file()]
            yield _model(id, "disk", files, directory / "model.bin", path)

    def _on_disk(self) -> Iterator[LibraryModel]:
        try:
            directories = sorted(self.resolver.models_dir.iterdir())
        except OSError:
            return
        for path in directories:
            if BARE_NAME.fullmatch(path.name):
                yield from self.describe(path.name, path, path)

    def _packaged(self) -> Iterator[LibraryModel]:
        for name, files in self.resolver.packages.installed():
            yield _model(name, "package", files, files[0])

    def _downloadable(self) -> Iterator[LibraryModel]:
        if not self.resolver.offline:
            for name in dict.fromkeys(map(canonical_name, REPOSITORIES)):
                dimensions = _DIMENSIONS[name]
                yield LibraryModel(name, "hub", dimensions.weight_bytes("float16"), dimensions=dimensions)


def memory_by_type(dimensions: Dimensions | None, *, on_gpu: bool) -> dict[str, int]:
    """Return the bytes that a model needs for one request at a time, by compute type; nothing if unknown."""
    if dimensions is None:
        return {}
    estimator = MemoryEstimator(on_gpu, batch=1)
    return {compute_type: estimator.peak_bytes(dimensions, compute_type, 1) for compute_type in _TYPES[on_gpu]}


def _cached() -> Iterator[LibraryModel]:
    """Yield the known models, and all others of Whisper."""
    for repository in hub.cached_repositories():
        id = NAMES_OF_REPOSITORIES.get(repository.id, repository.id)
        weights = repository.snapshot / "model.bin"
        dimensions = Dimensions.read(weights) or _DIMENSIONS.get(id)
        if dimensions is not None:
            with suppress(FileNotFoundError):  # it is being deleted
                created = int(weights.stat().st_mtime)
                yield LibraryModel(id, "cache", repository.size, created, dimensions, repository.path)


def _model(id: str, source: Source, files: Iterable[Path], weights: Path, path: Path | None = None) -> LibraryModel:
    dimensions = Dimensions.read(weights) or _DIMENSIONS.get(canonical_name(id))
    size = sum(file.stat().st_size for file in files)
    return LibraryModel(id, source, size, int(weights.stat().st_mtime), dimensions, path)


def _remove(directory: Path) -> None:
    """Rename the directory first, so that nobody loads a model of which half is gone. Of a link, only the link goes."""
    if directory.is_symlink():
        directory.unlink()
        return
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".deleting-") as scratch:
        shutil.move(directory, Path(scratch, directory.name))
