"""A Dockerfile read into what its last stage does, and held against what is good practice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    text: str

    @property
    def command(self) -> list[str]:
        """The words of an instruction in the form that needs no shell."""
        found: list[str] = json.loads(re.sub(r"^.*?(?=\[)", "", self.text))
        return found

    @property
    def script(self) -> str:
        """What RUN hands to the shell."""
        return re.sub(r"^(--\S+\s+)*", "", self.text)


class Dockerfile:
    def __init__(self, path: Path) -> None:
        text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
        lines = re.sub(r"\\\n\s*", "", text).splitlines()
        self.instructions = [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]

    @property
    def stages(self) -> list[list[Instruction]]:
        starts = [i for i, instruction in enumerate(self.instructions) if instruction.word == "FROM"]
        return [self.instructions[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]

    def all(self, word: str) -> list[Instruction]:
        """Those of the last stage, which is what runs."""
        return [instruction for instruction in self.stages[-1] if instruction.word == word]

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for instruction in self.all("ENV") for pair in instruction.text.split())
