"""Programs with clients of other projects, each in an environment of its own, as their dependencies contradict."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Client:
    """`program` is in programs/, and prints a JSON object. Its `packages` are those of npm if it is JavaScript.

    The versions of the packages are those that are known to work.
    """

    name: str
    program: str
    packages: tuple[str, ...]

    def run(self, root: Path, *arguments: str, latest: bool) -> dict[str, Any]:
        """Run the program in its environment below a folder and return what it prints last.

        `latest` takes the latest versions of the packages. Skips the test if they cannot be installed.
        """
        requirements = [_without_version(package) if latest else package for package in self.packages]
        folder = root / sha256(repr(requirements).encode()).hexdigest()[:16]
        command = (_npm if self.program.endswith(".mjs") else _python)(folder, requirements, PROGRAMS / self.program)
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_SECONDS, cwd=folder)
        assert run.returncode == 0, run.stderr[-5000:]
        printed: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return printed


def _without_version(package: str) -> str:
    return re.sub(r"(==|(?<=.)@)\d.*", "", package)


def _python(folder: Path, requirements: list[str], program: Path) -> list[str]:
    """Return the command that runs a program in an environment with these packages."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("needs uv")
    if not folder.exists():
        _install([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _install([uv, "pip", "install", "--quiet", "--python", str(folder), *requirements])
    return [str(folder / "bin" / "python"), str(program)]


def _npm(folder: Path, requirements: list[str], program: Path) -> list[str]:
    """JavaScript finds packages beside the program, so the program is copied there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    if not folder.exists():
        folder.mkdir()
        _install(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *requirements])
    return ["node", str(shutil.copy(program, folder))]


def _install(command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if finished.returncode:
        pytest.skip(f"needs a package registry: {finished.stderr[-500:]}")
