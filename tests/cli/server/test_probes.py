from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import pytest

from whisper_server.cli.check import run_probe
from whisper_server.cli.server import probes
from whisper_server.core.errors import ModelLoadFailed, OutOfMemory, SettingsError
from whisper_server.inference.hardware.cublas import INSTALL_COMMAND

needs_no_gpu = pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="there is a GPU")


def _printed(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (line,) = capsys.readouterr().out.splitlines()
    result: dict[str, object] = json.loads(line)
    return result


def test_finds_the_cpu_and_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cpu", "auto"]) == 0
    result = _printed(capsys)
    assert (result["device"], result["note"], result["selected"]) == ("cpu", "", "int8")
    assert {"int8", "float32"} <= set(result["compute_types"])  # type: ignore[call-overload]


@needs_no_gpu
def test_reports_why_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cuda", "auto"]) == 1
    result = _printed(capsys)
    assert str(result["error"]).startswith("device cuda is not there: ")
    assert result["hint"]
    assert probes.main(["device", "auto", "auto"]) == 0
    assert _printed(capsys)["note"]


def test_reports_a_compute_type_that_the_device_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cpu", "int8_float16"]) == 1
    result = _printed(capsys)
    assert "compute type int8_float16 does not run on cpu" in str(result["error"])
    assert result["hint"] == "use --compute-type auto"


def test_reports_an_incomplete_directory(tmp_path: Path) -> None:
    result = run_probe("window", "cpu", "int8", str(tmp_path))
    assert "is incomplete: it has no model.bin" in result["error"]
    assert result["hint"] == "convert or download the model again (docs/models.md)"


@pytest.mark.parametrize(
    ("exc", "hint"),
    [
        (RuntimeError("std::bad_alloc"), probes.SMALLER_MODEL),
        (MemoryError(), probes.SMALLER_MODEL),
        (RuntimeError("CUDA failed with error out of memory"), probes.SMALLER_MODEL),
        (OutOfMemory(), probes.SMALLER_MODEL),
        (RuntimeError("Library libcublas.so.12 is not found or cannot be loaded"), INSTALL_COMMAND),
        (ModelLoadFailed("model 'a' could not be loaded: invalid payload size"), "convert or download the model again"),
        (SettingsError("wrong", hint="mend it"), "mend it"),
        (RuntimeError("something else"), ""),
    ],
)
def test_errors_have_hints(exc: Exception, hint: str) -> None:
    result = probes.failure(exc)
    assert result["error"]
    assert result["hint"].startswith(hint) and bool(result["hint"]) == bool(hint)
