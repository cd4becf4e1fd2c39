from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whisper_server.cli import check
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels

CUBLAS = "Library libcublas.so.12 is not found or cannot be loaded"


class Trials:
    """A machine with a card on which the types that are told fail."""

    def __init__(self, failing: dict[str, dict[str, Any]] | None = None, device: dict[str, Any] | None = None) -> None:
        self.windows: list[str] = []
        self._failing = failing or {}
        types = ["float16", "float32", "int8"]
        self._device = device or {"device": "cuda:0", "note": "", "chosen": "float16", "compute_types": types}
        self.plan: dict[str, Any] = {"compute_type": "float16", "fits": True, "plan": "float16 with batches of up to 8"}

    def __call__(self, kind: str, *arguments: str) -> dict[str, Any]:
        if kind == "device":
            return self._device
        if kind == "plan":
            return self.plan
        self.windows.append(arguments[1])
        return self._failing.get(arguments[1], {"load_seconds": 1.25, "window_seconds": 0.5, "bytes": 2_000_000})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.bin").write_bytes(bytes(3_000_000))
    return Settings(model="mine", models_dir=tmp_path, offline=True)


def _fail(exc: Exception) -> Callable[[], str]:
    def step() -> str:
        raise exc

    return step


def test_tries_what_is_taken_first_and_reports_every_type(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = Trials()
    assert check.run(settings, [("address", lambda: "here")], trials) == 0
    assert trials.windows == ["float16", "float32", "int8"]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  ok    address        here",
        "  ok    device         cuda:0, float16",
        f"  ok    model          mine: {tmp_path}/mine, 3 MB",
        "  ok    memory         float16 with batches of up to 8",
        "  ok    float16        loads in 1.2 s, a window takes 0.5 s, 2 MB, taken",
        "  ok    float32        loads in 1.2 s, a window takes 0.5 s, 2 MB",
        "  ok    int8           loads in 1.2 s, a window takes 0.5 s, 2 MB",
        "These settings can serve.",
    ]


def test_a_type_that_is_not_taken_may_fail(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials({"float32": {"error": "CUDA failed with error out of memory", "cure": ""}})
    assert check.run(settings, [], trials) == 0
    assert "  note  float32        CUDA failed with error out of memory\n        → a smaller" in capsys.readouterr().out


def test_the_type_that_is_taken_may_not(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(settings, [], Trials({"float16": {"error": CUBLAS}})) == 1
    said = capsys.readouterr().out
    assert f"  FAIL  float16        {CUBLAS}\n        → pip install 'whisper-server[cuda]'\n" in said
    assert said.endswith("These settings cannot serve: 1 failed\n")


def test_what_the_plan_takes_is_tried_first(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials()
    trials.plan = {"compute_type": "int8", "fits": False, "plan": "int8 with batches of up to 1, which is not enough"}
    assert check.run(settings, [], trials) == 0
    assert trials.windows[0] == "int8"
    said = capsys.readouterr().out
    assert "  note  memory         int8 with batches of up to 1, which is not enough\n        → a smaller model" in said
    assert "2 MB, taken\n" in said


def test_a_plan_that_cannot_be_made_is_a_failure(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials()
    trials.plan = {"error": "CUDA driver version is insufficient", "cure": ""}
    assert check.run(settings, [], trials) == 1
    assert "FAIL  memory         CUDA driver version" in capsys.readouterr().out
    assert trials.windows[0] == "float16"


def test_no_window_is_tried_without_a_device(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials(device={"error": "device cuda is not there: no card", "cure": "docker run --gpus all …"})
    assert check.run(settings, [], trials) == 1
    assert trials.windows == []
    assert "no card\n        → docker run --gpus all …\n" in capsys.readouterr().out


def test_a_missing_model_is_said_with_what_to_do(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials()
    other = Settings(model="nonesuch", models_dir=settings.models_dir)
    assert check.run(other, [], trials) == 1
    assert trials.windows == []
    said = capsys.readouterr().out
    assert "FAIL  model          model 'nonesuch' not found; looked for a directory" in said
    assert "\n        → use one of the known names: tiny.en" in said


@pytest.mark.parametrize(
    ("cause", "cure"),
    [
        (OSError("cannot listen on 127.0.0.1 port 80: Permission denied"), "--port from 1024 on"),
        (OSError("cannot listen on 127.0.0.1 port 5000: Address already in use"), "--port with another number"),
        (ValueError("something new"), None),
    ],
)
def test_a_failing_step_does_not_end_the_check(
    cause: Exception, cure: str | None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.run(settings, [("address", _fail(cause)), ("next", lambda: "fine")], Trials()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"  FAIL  address        {cause}"
    assert lines[2].startswith(f"        → {cure}" if cure else "  ok    next")


@pytest.mark.parametrize("cause", ["std::bad_alloc", "MemoryError", "CUDA failed with error out of memory"])
def test_want_of_memory_has_a_cure(cause: str, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(settings, [], Trials({"float16": {"error": cause}})) == 1
    assert "a smaller model or --compute-type int8" in capsys.readouterr().out


def test_a_crash_is_told_by_its_signal_and_last_words() -> None:
    crashed = check.outcome(-signal.SIGABRT, "", "loading\nterminate called: cuDNN\n")
    assert crashed == {"error": "crashed by SIGABRT: terminate called: cuDNN", "cure": ""}
    killed = check.outcome(-signal.SIGKILL, "", "")
    assert killed["error"] == "crashed by SIGKILL"
    assert killed["cure"].startswith("a smaller model")


def test_a_trial_that_says_nothing_is_told_by_its_status() -> None:
    found = check.outcome(1, "", "Traceback\nImportError: libgomp.so.1\n")
    assert found == {"error": "ended with status 1: ImportError: libgomp.so.1", "cure": ""}


def test_what_libraries_print_before_is_passed_over() -> None:
    assert check.outcome(0, 'a banner\n{"device": "cpu"}\n', "") == {"device": "cpu"}


def _run(*flags: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "whisper_server", "--check", "--device", "cpu", "--offline", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_real_settings_that_can_serve() -> None:
    status, said = _run("--port", "0", "--model", "tiny.en")
    assert (status, said.splitlines()[-1]) == (0, "These settings can serve."), said
    assert "  ok    memory         int8 with batches of up to " in said
    assert "MB, taken" in said
    assert "float32" in said


def test_real_settings_that_cannot(tmp_path: Path) -> None:
    """The port is taken, and the weights are damaged; one word is about each."""
    good = PackagedModels({"tiny.en": PACKAGES["tiny.en"]}, cache_dir=tmp_path).find("tiny.en")
    assert good is not None
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / "model.bin").write_bytes((good / "model.bin").read_bytes()[:1_000_000])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, said = _run("--port", str(taken.getsockname()[1]), "--model", str(bad))
    assert status == 1
    assert "Address already in use\n        → --port with another number" in said
    assert "FAIL  int8" in said


def test_wrong_settings_are_refused_as_ever() -> None:
    status, said = _run("--port", "x")
    assert (status, said.count("\n")) == (2, 1)
