from __future__ import annotations

import re

import ctranslate2
import pytest

from whisper_server.core.settings import SettingsError
from whisper_server.inference.hardware.device import Device, fallback_types

GPUS = ctranslate2.get_cuda_device_count()
needs_gpu = pytest.mark.skipif(GPUS == 0, reason="no CUDA GPU")
needs_no_gpu = pytest.mark.skipif(GPUS > 0, reason="there is a CUDA GPU")


def test_cpu_selects_the_cpu() -> None:
    assert Device.choose("cpu") == Device("cpu")


@needs_no_gpu
def test_auto_without_a_gpu_is_the_cpu() -> None:
    assert Device.choose("auto") == Device("cpu")


@needs_gpu
def test_auto_with_a_gpu_is_the_first_gpu() -> None:
    assert Device.choose("auto") == Device("cuda")


@needs_no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_a_gpu_is_a_settings_error(name: str) -> None:
    with pytest.raises(SettingsError, match=f"device {name} is not there: CUDA finds 0 "):
        Device.choose(name)


@pytest.mark.parametrize("index", [str(GPUS), "9" * 20], ids=["next", "large"])
def test_a_gpu_index_beyond_the_last_is_a_settings_error(index: str) -> None:
    with pytest.raises(SettingsError, match="cuda:"):
        Device.choose(f"cuda:{index}")


def test_devices_are_printed_as_they_are_chosen() -> None:
    assert [str(Device("cpu")), str(Device("cuda")), str(Device("cuda", (1,)))] == ["cpu", "cuda:0", "cuda:1"]
    assert str(Device("cuda", (0, 2))) == "cuda:0,2"


def test_the_automatic_compute_type_on_the_cpu_is_int8() -> None:
    assert Device("cpu").compute_types("auto")[0] == "int8"


def test_a_supported_compute_type_is_used() -> None:
    assert Device("cpu").compute_types("float32")[0] == "float32"


def test_an_unsupported_compute_type_is_a_settings_error_that_lists_the_supported() -> None:
    supported = sorted(ctranslate2.get_supported_compute_types("cpu"))
    assert "float16" not in supported
    message = f"compute type float16 does not run on cpu; it has {', '.join(supported)}"
    with pytest.raises(SettingsError, match=re.escape(message)):
        Device("cpu").compute_types("float16")


@needs_gpu
def test_the_gpu_supports_the_automatic_compute_type() -> None:
    assert Device("cuda").compute_types("auto")[0] in ctranslate2.get_supported_compute_types("cuda")


def test_the_memory_of_the_process_is_counted() -> None:
    assert Device("cpu").used_bytes() > 1_000_000


@pytest.mark.parametrize(
    ("supported", "requested", "types"),
    [
        ("float16 float32 int8 int8_float16", "auto", ("float16", "int8_float16", "int8")),
        ("float32 int8", "auto", ("float32", "int8")),
        ("float16 float32 int8 int8_float16", "float32", ("float32", "float16", "int8_float16", "int8")),
        ("float16 float32 int8 int8_float16", "float16", ("float16", "int8_float16", "int8")),
        ("float16 float32 int8 int8_float16", "int8", ("int8",)),
    ],
)
def test_types_are_tried_from_the_best_to_the_smallest(supported: str, requested: str, types: tuple[str, ...]) -> None:
    assert fallback_types("cuda", set(supported.split()), requested, "cuda:0") == types


def test_the_memory_of_the_machine_is_known() -> None:
    memory = Device("cpu").memory()
    assert memory is not None
    assert 0 < memory.free <= memory.total
