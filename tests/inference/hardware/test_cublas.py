from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_server.inference.hardware.cublas import LIBRARIES, installed_libraries, load_cublas


def _install(folder: Path, *libraries: str) -> list[Path]:
    paths = [folder / "nvidia" / library for library in libraries]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not a library")
    return paths


def test_the_packages_libraries_are_loaded_in_dependency_order(tmp_path: Path) -> None:
    paths = _install(tmp_path / "site", *LIBRARIES)
    loaded: list[str] = []
    assert load_cublas([str(tmp_path / "empty"), str(tmp_path / "site")], loaded.append) == ""
    assert loaded == [str(path) for path in paths]


def test_the_first_folder_with_all_libraries_is_used(tmp_path: Path) -> None:
    _install(tmp_path / "half", LIBRARIES[0])
    first = _install(tmp_path / "first", *LIBRARIES)
    _install(tmp_path / "second", *LIBRARIES)
    assert installed_libraries([str(tmp_path / name) for name in ("half", "first", "second")]) == first


def test_without_packages_the_systems_libraries_are_loaded_by_name(tmp_path: Path) -> None:
    loaded: list[str] = []
    assert load_cublas([str(tmp_path)], loaded.append) == ""
    assert loaded == ["libcublasLt.so.12", "libcublas.so.12"]


def test_a_missing_library_is_reported_with_the_install_command(tmp_path: Path) -> None:
    def load(path: str) -> None:
        raise OSError(f"{path}: cannot open shared object file")

    assert load_cublas([str(tmp_path)], load) == (
        "NVIDIA's cuBLAS 12 is not installed: pip install nvidia-cublas-cu12 nvidia-ml-py"
    )


def test_a_damaged_library_is_reported(tmp_path: Path) -> None:
    _install(tmp_path, *LIBRARIES)
    problem = load_cublas([str(tmp_path)])
    assert re.search(r"damaged \(.*libcublasLt\.so\.12: .*\): pip install --force-reinstall", problem)


@pytest.mark.skipif(not installed_libraries(sys.path), reason="the extra `cuda` is not installed")
def test_ctranslate2_finds_the_loaded_library_by_name() -> None:
    """It opens the library by name, without LD_LIBRARY_PATH; the test needs no GPU."""
    code = (
        "import ctypes; from whisper_server.inference.hardware.cublas import load_cublas; assert load_cublas() == '';"
        "ctypes.CDLL('libcublas.so.12').cublasCreate_v2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
