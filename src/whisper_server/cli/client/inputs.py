"""The input files of `whisper-server submit`, and the paths of their transcripts."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_server.core.errors import SettingsError

# The extensions of recordings in directories. A file that is given by its name may have any extension.
# fmt: off
_EXTENSIONS = frozenset((
    ".3gp", ".aac", ".aif", ".aiff", ".amr", ".asf", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ts",
    ".vob", ".wav", ".weba", ".webm", ".wma", ".wmv",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file, and the path of its transcript below the output directory, without its extension."""

    path: Path
    target: Path


def find_inputs(names: Sequence[str]) -> list[InputFile]:
    """Return the files of each name: a file, a directory with all its subdirectories, or a glob pattern.

    Each file is returned once. Raises SettingsError for the first name without files.
    """
    by_path: dict[Path, InputFile] = {}
    for name in names:
        inputs = list(_expand(name))
        if not inputs:
            raise SettingsError(f"{name}: no such file, or no recordings in it")
        for input_file in inputs:
            by_path.setdefault(input_file.path.resolve(), input_file)
    return list(_with_distinct_targets(list(by_path.values())))


def _expand(name: str) -> Iterator[InputFile]:
    path = Path(name)
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    for match in matches:
        if match.is_dir():
            for file in sorted(match.rglob("*")):
                if file.suffix.lower() in _EXTENSIONS and file.is_file():
                    yield InputFile(file, file.relative_to(match).with_suffix(""))
        elif match.is_file():
            yield InputFile(match, Path(match.stem))


def _with_distinct_targets(inputs: Sequence[InputFile]) -> Iterator[InputFile]:
    """The transcripts of talk.mp3 and talk.wav keep the extension: talk.mp3.txt and talk.wav.txt."""
    targets = Counter(input_file.target for input_file in inputs)
    used: set[Path] = set()
    for input_file in inputs:
        target = input_file.target
        if targets[target] > 1:
            target = target.with_name(input_file.path.name)
        while target in used:
            target = target.with_name(f"{target.name}-2")
        used.add(target)
        yield InputFile(input_file.path, target)
