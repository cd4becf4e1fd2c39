"""Environments with clients of other projects, each in its own folder, as their dependencies contradict each other.

They are kept in pytest's cache, or in the folder that TEST_CLIENTS_DIR names.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "scripts"
_INSTALL_SECONDS = 600
_RUN_SECONDS = 300


@dataclass(frozen=True)
class Client:
    """A script of the folder `scripts`, and the packages that it needs, from npm if it is JavaScript."""

    name: str
    script: str
    packages: tuple[str, ...]

    def install(self, root: Path) -> Path:
        """Return the client's folder; skips the test if the packages cannot be installed."""
        folder = root / f"{self.name}-{'.'.join(map(str, sys.version_info[:2]))}"
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            install = self._npm if self.script.endswith(".mjs") else self._pip
            install(folder)
            (folder / "installed").touch()
        return folder

    def _pip(self, folder: Path) -> None:
        _install([sys.executable, "-m", "venv", str(folder / "venv")])
        _install([str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", *self.packages])

    def _npm(self, folder: Path) -> None:
        if shutil.which("node") is None or shutil.which("npm") is None:
            pytest.skip("needs node and npm")
        _install(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *self.packages])

    def run(self, folder: Path, *arguments: str) -> Any:
        """Return the JSON that the script prints as its last line."""
        script = SCRIPTS / self.script
        if self.script.endswith(".mjs"):
            shutil.copy(script, folder)  # node looks for packages beside the script
            command = ["node", str(folder / self.script)]
        else:
            command = [str(folder / "venv/bin/python"), str(script)]
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_RUN_SECONDS)
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(run.stdout.splitlines()[-1])


def _install(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    if done.returncode:
        pytest.skip(f"cannot be installed: {done.stderr[-500:]}")
