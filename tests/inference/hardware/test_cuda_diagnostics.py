from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from whisper_server.inference.hardware.cuda_diagnostics import Initialised, find_problem


def _missing() -> Initialised:
    raise OSError("libcuda.so.1: cannot open shared object file")


def _says(status: int, version: int = 12040) -> Callable[[], Initialised]:
    return lambda: Initialised(status, version)


def _plug_in(root: Path, vendor: str, kind: str) -> None:
    device = root / "sys" / "bus" / "pci" / "devices" / f"0000:01:00.{vendor[-1]}"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")


@pytest.mark.parametrize(
    ("vendor", "kind"), [("0x8086", "0x030000"), ("0x10de", "0x040300")], ids=["another's card", "a sound device"]
)
def test_no_card(vendor: str, kind: str, tmp_path: Path) -> None:
    _plug_in(tmp_path, vendor, kind)
    assert find_problem(tmp_path, {}, _missing).cause == "there is no NVIDIA card in this machine"


def test_empty_machine(tmp_path: Path) -> None:
    assert "--device cpu" in find_problem(tmp_path, {}, _missing).cure


def test_card_without_a_driver(tmp_path: Path) -> None:
    _plug_in(tmp_path, "0x10de", "0x030200")
    problem = find_problem(tmp_path, {}, _missing)
    assert (problem.cause, "install" in problem.cure) == ("there is an NVIDIA card, but no driver", True)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_card_that_the_container_does_not_get(mark: str, tmp_path: Path) -> None:
    _plug_in(tmp_path, "0x10de", "0x030000")
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert find_problem(tmp_path, {}, _missing).cure == "docker run --gpus all …"


def test_old_driver(tmp_path: Path) -> None:
    problem = find_problem(tmp_path, {}, _says(0, 11040))
    assert "is for CUDA 11.4" in problem.cause
    assert "525.60" in problem.cure


def test_hidden_card(tmp_path: Path) -> None:
    problem = find_problem(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, _says(100))
    assert "CUDA_VISIBLE_DEVICES is ''" in problem.cause


@pytest.mark.parametrize(
    ("status", "cure"), [(0, "nvidia-smi"), (100, "--gpus all"), (803, "restart"), (999, "nvidia_uvm"), (1, "dmesg")]
)
def test_every_error_of_the_driver_has_a_cure(status: int, cure: str, tmp_path: Path) -> None:
    assert cure in find_problem(tmp_path, {}, _says(status)).cure
