from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import pytest

from whisper_server.cli import probes
from whisper_server.cli.check import run_trial

needs_no_card = pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="a CUDA card is here")


def _said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_finds_the_cpu_and_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cpu", "auto"]) == 0
    found = _said(capsys)
    assert (found["device"], found["note"], found["chosen"]) == ("cpu", "", "int8")
    assert {"int8", "float32"} <= set(found["compute_types"])  # type: ignore[call-overload]


@needs_no_card
def test_says_why_there_is_no_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cuda", "auto"]) == 1
    found = _said(capsys)
    assert str(found["error"]).startswith("device cuda is not there: ")
    assert found["cure"]
    assert probes.main(["device", "auto", "auto"]) == 0
    assert _said(capsys)["note"]


def test_a_type_that_the_device_lacks_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert probes.main(["device", "cpu", "int8_float16"]) == 1
    assert "compute type int8_float16 does not run on cpu" in str(_said(capsys)["error"])


def test_incomplete_directory_is_said(tmp_path: Path) -> None:
    found = run_trial("window", "cpu", "int8", str(tmp_path))
    assert "is incomplete: it has no model.bin" in found["error"]
