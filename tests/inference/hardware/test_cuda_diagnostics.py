from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from whisper_server.inference.hardware.cuda_diagnostics import DriverStatus, find_problem


def _missing() -> DriverStatus:
    raise OSError("libcuda.so.1: cannot open shared object file")


def _status(code: int, cuda_version: int = 12040) -> Callable[[], DriverStatus]:
    return lambda: DriverStatus(code, cuda_version)


def _add_pci_device(root: Path, vendor: str, device_class: str) -> None:
    device = root / "sys" / "bus" / "pci" / "devices" / f"0000:01:00.{vendor[-1]}"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(device_class + "\n")


@pytest.mark.parametrize(
    ("vendor", "device_class"),
    [("0x8086", "0x030000"), ("0x10de", "0x040300")],
    ids=["other vendor", "a sound device"],
)
def test_a_machine_without_an_nvidia_gpu(vendor: str, device_class: str, tmp_path: Path) -> None:
    _add_pci_device(tmp_path, vendor, device_class)
    assert find_problem(tmp_path, {}, _missing).cause == "there is no NVIDIA GPU in this machine"


def test_without_a_gpu_the_cpu_is_suggested(tmp_path: Path) -> None:
    assert "--device cpu" in find_problem(tmp_path, {}, _missing).hint


def test_a_gpu_without_a_driver(tmp_path: Path) -> None:
    _add_pci_device(tmp_path, "0x10de", "0x030200")
    problem = find_problem(tmp_path, {}, _missing)
    assert (problem.cause, "install" in problem.hint) == ("there is an NVIDIA GPU, but no driver", True)


@pytest.mark.parametrize("marker", [".dockerenv", "run/.containerenv"])
def test_a_gpu_that_is_not_passed_to_the_container(marker: str, tmp_path: Path) -> None:
    _add_pci_device(tmp_path, "0x10de", "0x030000")
    (tmp_path / marker).parent.mkdir(exist_ok=True)
    (tmp_path / marker).touch()
    assert find_problem(tmp_path, {}, _missing).hint == "docker run --gpus all …"


def test_an_old_driver(tmp_path: Path) -> None:
    problem = find_problem(tmp_path, {}, _status(0, 11040))
    assert "supports CUDA 11.4" in problem.cause
    assert "525.60" in problem.hint


def test_a_hidden_gpu(tmp_path: Path) -> None:
    problem = find_problem(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, _status(100))
    assert "CUDA_VISIBLE_DEVICES is ''" in problem.cause


@pytest.mark.parametrize(
    ("code", "fix"), [(0, "nvidia-smi"), (100, "--gpus all"), (803, "restart"), (999, "nvidia_uvm"), (1, "dmesg")]
)
def test_every_driver_error_has_a_fix(code: int, fix: str, tmp_path: Path) -> None:
    assert fix in find_problem(tmp_path, {}, _status(code)).hint
