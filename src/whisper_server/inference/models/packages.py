"""Finds models that are installed as Python packages, without importing them, and joins those stored in parts."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from pathlib import Path

from whisper_server.core.errors import ModelLoadFailed
from whisper_server.inference.models.catalogue import ModelPackage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackagedModels:
    packages: dict[str, ModelPackage]
    _: KW_ONLY
    cache_dir: Path

    def installed(self) -> Iterator[tuple[str, list[Path]]]:
        """Yield the models whose packages are installed, with their files: first the weights, perhaps in parts."""
        for name, package in self.packages.items():
            if parts := _parts(package):
                yield name, [*parts, *_companions(parts)]

    def find(self, name: str) -> Path | None:
        """Return the model's directory, or None if its packages are not installed."""
        package = self.packages.get(name)
        if package is None or not (parts := _parts(package)):
            return None
        return parts[0].parent if len(parts) == 1 else self._join_parts(name, package, parts)

    def _join_parts(self, name: str, package: ModelPackage, parts: list[Path]) -> Path:
        directory = self.cache_dir / name
        model = directory / "model.bin"
        is_complete = all((directory / file.name).is_file() for file in _companions(parts))
        if is_complete and model.is_file() and _sha256([model]) == package.sha256:
            return directory
        if _sha256(parts) != package.sha256:
            raise ModelLoadFailed(
                f"the installed parts of model {name!r} have the wrong checksum", hint=f"reinstall {package.install}"
            )
        logger.info("joining the parts of model %s in %s", name, directory)
        _join(parts, directory)
        return directory


def _parts(package: ModelPackage) -> list[Path]:
    """Return the files with the weights, or nothing if one of them is not installed."""
    files = [_installed(file) for file in package.files]
    parts = [file for file in files if file is not None]
    return parts if len(parts) == len(files) else []


def _installed(file: str) -> Path | None:
    module, _, relative = file.partition("/")
    spec = find_spec(module)
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location, relative)
        if path.is_file():
            return path
    return None


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _companions(parts: list[Path]) -> list[Path]:
    """Return the tokenizer, the vocabulary and the other files beside the last part."""
    return [file for file in parts[-1].parent.iterdir() if file.is_file() and not file.name.startswith("model.bin")]


def _join(parts: list[Path], directory: Path) -> None:
    """Build the directory under another name and rename it, so that nobody sees an incomplete one."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".joining-") as scratch:
        temporary = Path(scratch, directory.name)
        temporary.mkdir()
        with (temporary / "model.bin").open("wb") as model:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, model, 1 << 20)
        for file in _companions(parts):
            shutil.copy(file, temporary / file.name)
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)
