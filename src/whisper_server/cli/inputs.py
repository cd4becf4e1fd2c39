"""The files that a user names: single ones, directories and patterns, and where their transcripts go."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_server.core.settings import SettingsError

# What is taken out of a directory; a file that is named is taken whatever it is called.
# fmt: off
_ENDINGS = frozenset((
    ".3gp", ".aac", ".aif", ".aiff", ".amr", ".asf", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ts",
    ".vob", ".wav", ".weba", ".webm", ".wma", ".wmv",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file, and the path of its transcript below the output directory, without an ending."""

    path: Path
    target: Path

    @property
    def name(self) -> str:
        return self.path.name


def find(names: Sequence[str]) -> list[InputFile]:
    """Files as they are, directories with all below them, and patterns for shells that leave these to programs.

    What is found twice is taken once. Raises SettingsError for the first name that leads to nothing.
    """
    found: dict[Path, InputFile] = {}
    for name in names:
        inputs = list(_named(name))
        if not inputs:
            raise SettingsError(f"{name}: no such file, or no recordings in it")
        for input_file in inputs:
            found.setdefault(input_file.path.resolve(), input_file)
    return list(_apart(list(found.values())))


def _named(name: str) -> Iterator[InputFile]:
    path = Path(name)
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    for match in matches:
        if match.is_dir():
            inside = sorted(file for file in match.rglob("*") if file.is_file())
            yield from (
                InputFile(file, file.relative_to(match).with_suffix(""))
                for file in inside
                if file.suffix.lower() in _ENDINGS
            )
        elif match.is_file():
            yield InputFile(match, Path(match.stem))


def _apart(inputs: Sequence[InputFile]) -> Iterator[InputFile]:
    """Talk.mp3 and talk.wav keep their endings in the names of their transcripts."""
    targets = Counter(input_file.target for input_file in inputs)
    used: set[Path] = set()
    for input_file in inputs:
        target = input_file.target if targets[input_file.target] == 1 else input_file.target.with_name(input_file.name)
        while target in used:
            target = target.with_name(f"{target.name}-2")
        used.add(target)
        yield InputFile(input_file.path, target)
