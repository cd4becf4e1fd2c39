"""Loads NVIDIA's cuBLAS from the Python packages of the `cuda` extra, so that LD_LIBRARY_PATH need not be set.

CTranslate2 opens `libcublas.so.12` by name when it first computes on a GPU. The dynamic linker then returns the library
that the process has already loaded under that name.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

# In dependency order. cuBLAS brings its own copy of the CUDA runtime, as CTranslate2 does.
LIBRARIES = ("cublas/lib/libcublasLt.so.12", "cublas/lib/libcublas.so.12")
INSTALL_COMMAND = "pip install nvidia-cublas-cu12 nvidia-ml-py"


def load_library(path: str) -> None:
    """Load a shared library, by path or name, and share its symbols with the whole process; raises OSError."""
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def load_cublas(folders: Iterable[str] | None = None, load: Callable[[str], None] = load_library) -> str:
    """Load cuBLAS from the packages in these folders (default: `sys.path`), or else from the system.

    Returns an empty string on success, otherwise a sentence that tells the operator what is wrong.
    """
    paths = installed_libraries(sys.path if folders is None else folders)
    try:
        for path in paths or [Path(Path(library).name) for library in LIBRARIES]:
            load(str(path))
    except OSError as exc:
        logger.debug("cuBLAS cannot be loaded: %s", exc)
        if not paths:
            return f"NVIDIA's cuBLAS 12 is not installed: {INSTALL_COMMAND}"
        return f"NVIDIA's cuBLAS 12 is damaged ({exc}): pip install --force-reinstall nvidia-cublas-cu12"
    return ""


def installed_libraries(folders: Iterable[str]) -> list[Path]:
    """Return the paths of LIBRARIES in the first folder that has all of them, or an empty list."""
    for folder in folders:
        paths = [Path(folder, "nvidia", library) for library in LIBRARIES]
        if all(path.is_file() for path in paths):
            return paths
    return []
