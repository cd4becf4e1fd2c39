from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import program
import pytest

from whisper_server.cli import check
from whisper_server.cli.server.probes import SMALLER_MODEL
from whisper_server.core.errors import AddressUnavailable
from whisper_server.core.settings import Settings
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels


class FakeProbes:
    """The results of a machine with a GPU on which the compute types in `failing` fail."""

    def __init__(self, failing: dict[str, dict[str, Any]] | None = None, device: dict[str, Any] | None = None) -> None:
        self.windows: list[str] = []
        self._failing = failing or {}
        types = ["float16", "float32", "int8"]
        self._device = device or {"device": "cuda:0", "note": "", "selected": "float16", "compute_types": types}
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


def test_tests_the_selected_compute_type_first_and_reports_every_type(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = FakeProbes()
    assert check.run(settings, [("address", lambda: "here")], probes) == 0
    assert probes.windows == ["float16", "float32", "int8"]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  ok    address        here",
        "  ok    device         cuda:0, float16",
        f"  ok    model          mine: {tmp_path}/mine, 3 MB",
        "  ok    memory         float16 with batches of up to 8",
        "  ok    float16        loads in 1.2 s, a window takes 0.5 s, 2 MB, selected",
        "  ok    float32        loads in 1.2 s, a window takes 0.5 s, 2 MB",
        "  ok    int8           loads in 1.2 s, a window takes 0.5 s, 2 MB",
        "These settings can serve.",
    ]


def test_another_compute_type_may_fail(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    probes = FakeProbes({"float32": {"error": "CUDA failed with error out of memory", "hint": SMALLER_MODEL}})
    assert check.run(settings, [], probes) == 0
    assert (
        f"  note  float32        CUDA failed with error out of memory\n        → {SMALLER_MODEL}\n"
        in capsys.readouterr().out
    )


def test_the_selected_compute_type_may_not_fail(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(settings, [], FakeProbes({"float16": {"error": "it fails", "hint": "mend it"}})) == 1
    output = capsys.readouterr().out
    assert "  FAIL  float16        it fails\n        → mend it\n" in output
    assert output.endswith("These settings cannot serve: 1 failed\n")


def test_the_compute_type_of_the_plan_is_tested_first(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    probes = FakeProbes()
    probes.plan = {"compute_type": "int8", "fits": False, "plan": "int8 with batches of up to 1, which is not enough"}
    assert check.run(settings, [], probes) == 0
    assert probes.windows[0] == "int8"
    output = capsys.readouterr().out
    assert (
        f"  note  memory         int8 with batches of up to 1, which is not enough\n        → {SMALLER_MODEL}\n"
        in output
    )
    assert "2 MB, selected\n" in output


def test_a_failing_plan_is_a_failure(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    probes = FakeProbes()
    probes.plan = {"error": "CUDA driver version is insufficient", "hint": ""}
    assert check.run(settings, [], probes) == 1
    assert "FAIL  memory         CUDA driver version" in capsys.readouterr().out
    assert probes.windows[0] == "float16"


def test_no_window_is_tested_without_a_device(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    probes = FakeProbes(device={"error": "device cuda is not there: no GPU", "hint": "docker run --gpus all …"})
    assert check.run(settings, [], probes) == 1
    assert probes.windows == []
    assert "no GPU\n        → docker run --gpus all …\n" in capsys.readouterr().out


def test_a_missing_model_is_reported_with_a_hint(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    probes = FakeProbes()
    other = Settings(model="nonesuch", models_dir=settings.models_dir)
    assert check.run(other, [], probes) == 1
    assert probes.windows == []
    output = capsys.readouterr().out
    assert "FAIL  model          model 'nonesuch' not found; looked for a directory" in output
    assert "\n        → use one of the known names: tiny.en" in output


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        (AddressUnavailable("the port is in use", hint="choose another --port"), "choose another --port"),
        (OSError("the disk is full"), None),
        (ValueError("something else"), None),
    ],
)
def test_a_failing_step_does_not_end_the_check(
    cause: Exception, hint: str | None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.run(settings, [("address", _fail(cause)), ("next", lambda: "fine")], FakeProbes()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"  FAIL  address        {getattr(cause, 'message', cause)}"
    assert lines[2].startswith(f"        → {hint}" if hint else "  ok    next")


def test_a_crashed_probe_is_reported_with_its_signal_and_last_line() -> None:
    crashed = check.probe_result(-signal.SIGABRT, "", "loading\nterminate called: cuDNN\n")
    assert crashed == {"error": "crashed by SIGABRT: terminate called: cuDNN", "hint": ""}
    killed = check.probe_result(-signal.SIGKILL, "", "")
    assert killed["error"] == "crashed by SIGKILL"
    assert killed["hint"] == SMALLER_MODEL


def test_a_probe_without_output_is_reported_with_its_status() -> None:
    result = check.probe_result(1, "", "Traceback\nImportError: libgomp.so.1\n")
    assert result == {"error": "ended with status 1: ImportError: libgomp.so.1", "hint": ""}


def test_output_of_libraries_before_the_result_is_ignored() -> None:
    assert check.probe_result(0, 'a banner\n{"device": "cpu"}\n', "") == {"device": "cpu"}


def _run(*flags: str) -> tuple[int, str]:
    done = program.run("--check", "--device", "cpu", "--offline", *flags)
    return done.returncode, done.stdout + done.stderr


def test_working_settings() -> None:
    status, output = _run("--port", "0", "--model", "tiny.en")
    assert (status, output.splitlines()[-1]) == (0, "These settings can serve."), output
    assert "  ok    memory         int8 with batches of up to " in output
    assert "MB, selected" in output
    assert "float32" in output


def test_port_in_use_and_damaged_weights(tmp_path: Path) -> None:
    good = PackagedModels({"tiny.en": PACKAGES["tiny.en"]}, cache_dir=tmp_path).find("tiny.en")
    assert good is not None
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / "model.bin").write_bytes((good / "model.bin").read_bytes()[:1_000_000])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        status, output = _run("--port", str(listening.getsockname()[1]), "--model", str(bad))
    assert status == 1
    assert "Address already in use\n        → choose another --port" in output
    assert "FAIL  int8" in output
    assert "→ convert or download the model again" in output


def _failing_check(*flags: str) -> str:
    """Return the output of a check that fails, with a model that would not be found."""
    status, output = _run("--port", "0", "--model", "nosuch", *flags)
    assert status == 1
    assert "These settings cannot serve" in output
    return output


def test_a_directory_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    for directory in ("/proc/x", str(tmp_path / "file" / "x")):
        (tmp_path / "file").touch()
        output = _failing_check("--data-dir", directory)
        assert f"FAIL  jobs           the data directory {directory} cannot be used: " in output
        assert "→ choose a --data-dir that this user can write to" in output


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (["--webhook-host", "a.lan"], "--webhook-host needs --webhook-secret, which signs the webhooks"),
        (["--webhook-host", "a.lan", "--no-jobs"], "--webhook-host needs --webhook-secret, which signs the webhooks"),
        (["--audio-storage", "nosuch://bucket"], "--audio-storage: Protocol not known: nosuch"),
    ],
)
def test_settings_of_jobs_that_the_server_refuses_are_failures(flags: list[str], cause: str) -> None:
    assert f"FAIL  jobs           {cause}" in _failing_check(*flags)


def test_a_check_leaves_no_data_directory(tmp_path: Path) -> None:
    output = _failing_check("--data-dir", str(tmp_path / "new" / "data"))
    assert f"ok    jobs           data directory {tmp_path}/new/data" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "cause", "hint"),
    [
        (["--host", "192.0.2.1"], "Cannot assign requested address", "choose a --host that"),
        (["--host", "a..b"], "cannot listen on a..b port 0", "choose a --host that"),
        (["--host", "0.0.0.0"], "there is no key", "create a key with `whisper-server key NAME`"),
        (["--wyoming", "tcp://192.0.2.1:10300"], "cannot listen on 192.0.2.1 port 10300", "choose a --wyoming address"),
        (["--wyoming-zeroconf"], "--wyoming-zeroconf needs a --wyoming address", "add --wyoming tcp://0.0.0.0"),
        (["--model", "large-v3"], "Hugging Face cache", "start once with a connection and without --offline"),
        (["--model", "nosuch"], "'nosuch' not found", "use one of the known names: tiny.en"),
        (["--device", "cuda:99"], "device cuda:99 is not there", ""),
        (["--compute-type", "int8_float16"], "int8_float16 does not run on cpu", "use --compute-type auto"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_failure_has_its_own_hint(flags: list[str], cause: str, hint: str) -> None:
    lines = _failing_check(*flags).splitlines()
    (index,) = [index for index, line in enumerate(lines) if "FAIL" in line and cause in line]
    assert lines[index + 1].startswith(f"        → {hint}")
    assert flags[0] == "--host" or "--host" not in "\n".join(lines)


def test_wrong_settings_exit_2() -> None:
    status, output = _run("--port", "x")
    assert (status, output.count("\n")) == (2, 1)
