"""NVIDIA's cuBLAS out of the Python packages of the extra `cuda`, so that nobody needs LD_LIBRARY_PATH.

CTranslate2 opens `libcublas.so.12` by its name when it first computes on a card. It gets what the process has loaded
under that name already.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

# In the order in which they need each other. cuBLAS brings its own copy of the CUDA runtime, as CTranslate2 does.
LIBRARIES = ("cublas/lib/libcublasLt.so.12", "cublas/lib/libcublas.so.12")
ADVICE = "pip install 'whisper-server[cuda]'"


def load_library(path: str) -> None:
    """Load a shared library, by its path or name, for everything in this process; raises OSError."""
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def load_cublas(folders: Iterable[str] | None = None, load: Callable[[str], None] = load_library) -> str:
    """Load cuBLAS from the packages in these folders, by default where Python looks, or else from the system.

    Returns what is wrong, in a sentence for the operator; nothing if it is loaded.
    """
    found = installed_libraries(sys.path if folders is None else folders)
    try:
        for path in found or [Path(Path(library).name) for library in LIBRARIES]:
            load(str(path))
    except OSError as exc:
        logger.debug("cuBLAS cannot be loaded: %s", exc)
        if not found:
            return f"NVIDIA's cuBLAS 12 is not installed: {ADVICE}"
        return f"NVIDIA's cuBLAS 12 is damaged ({exc}): pip install --force-reinstall nvidia-cublas-cu12"
    return ""


def installed_libraries(folders: Iterable[str]) -> list[Path]:
    """Return the paths of all LIBRARIES in the first folder that has them, or nothing."""
    for folder in folders:
        paths = [Path(folder, "nvidia", library) for library in LIBRARIES]
        if all(path.is_file() for path in paths):
            return paths
    return []
