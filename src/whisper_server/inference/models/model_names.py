"""The names by which clients know a model that the operator has named, perhaps by a path."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from whisper_server.inference.models.catalogue import REPOSITORIES, canonical_name

# In these files, Transformers and converters note the repository that a model comes from.
_ORIGINS = {
    "config.json": "_name_or_path",
    "generation_config.json": "_name_or_path",
    "preprocessor_config.json": "_name_or_path",
    "tokenizer_config.json": "name_or_path",
}
_MAX_CONFIG_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class OperatorModel:
    """The model that the operator named, or none. `directory` is None if it was not named by a path."""

    name: str = ""
    id: str = ""
    names: frozenset[str] = frozenset()
    directory: Path | None = None

    @classmethod
    def of(cls, name: str) -> OperatorModel:
        path = Path(os.path.expanduser(name))
        return cls(name, public_id(name), names_of(name), path if os.path.isdir(path) else None)


def public_id(name: str) -> str:
    """Return the name, or the last part of a path, as clients must not learn the operator's directories."""
    path = os.path.expanduser(name)
    is_path = os.path.isdir(path) or os.path.isabs(path) or path.startswith(".") or path.count("/") > 1
    return os.path.basename(os.path.abspath(path)) if is_path else name


def names_of(name: str) -> frozenset[str]:
    """Return the id and the canonical names of a model; a directory also has the known name of its origin."""
    id, path = public_id(name), Path(os.path.expanduser(name))
    files = _ORIGINS.items() if os.path.isdir(path) else ()
    origins = {canonical_name(_text(path / file, key)) for file, key in files}
    return frozenset({id, *({canonical_name(id), *origins} & REPOSITORIES.keys())})


def _text(file: Path, key: str) -> str:
    """Return a text of a JSON object, or an empty string: these files are optional, and may have any content."""
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, str) else ""
