"""Finds cuBLAS for all processes of a run, also where only the cuBLAS of CUDA 13 is installed.

CTranslate2 opens `libcublas.so.12` by name, and the functions that it calls are the same in cuBLAS 13. So links with
the name of version 12 to version 13 are worth a try on a machine that has PyTorch for CUDA 13 and no network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_NAMES = ("libcublasLt.so", "libcublas.so")
# Relative to the folders of Python packages: NVIDIA's packages for CUDA 12, and those for CUDA 13.
_CUDA_12, _CUDA_13 = ("nvidia/cublas/lib",), ("nvidia/cu13/lib", "nvidia/cublas/lib")
_SYSTEM = ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64")


def find_cublas(folders: Iterable[str], links: Path, system: Iterable[str] = _SYSTEM) -> tuple[str, list[Path]]:
    """Return what was found, and the directories for LD_LIBRARY_PATH; makes links in a new directory if necessary."""
    folders = list(folders)
    for directory in _directories(folders, _CUDA_12):
        if _has(directory, 12):
            return f"cuBLAS 12 in {directory}", [directory]
    system_directories = [Path(directory) for directory in system]
    if any(_has(directory, 12) for directory in system_directories):
        return "cuBLAS 12 of the system", []
    for directory in [*_directories(folders, _CUDA_13), *system_directories]:
        if _has(directory, 13):
            links.mkdir(parents=True, exist_ok=True)
            for name in _NAMES:
                link = links / f"{name}.12"
                link.unlink(missing_ok=True)
                link.symlink_to(directory / f"{name}.13")
            return f"cuBLAS 13 in {directory}, through links with the name of version 12", [links, directory]
    return "the dynamic linker's, if there is one", []


def with_library_path(environ: Mapping[str, str], directories: Iterable[Path]) -> dict[str, str]:
    """Return the environment with these directories in front of LD_LIBRARY_PATH."""
    earlier = environ.get("LD_LIBRARY_PATH", "")
    path = os.pathsep.join([*map(str, directories), *([earlier] if earlier else [])])
    return {**environ, **({"LD_LIBRARY_PATH": path} if path else {})}


def _directories(folders: Iterable[str], relative: Iterable[str]) -> list[Path]:
    relative = list(relative)
    return [Path(folder, name) for folder in folders for name in relative]


def _has(directory: Path, version: int) -> bool:
    return all((directory / f"{name}.{version}").exists() for name in _NAMES)
