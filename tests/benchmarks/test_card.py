"""The measurements for a card: all of them run on a CPU, and their parts on what needs no card."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.card.__main__ import MATERIAL, STEPS
from benchmarks.card.cublas_links import find_cublas, with_library_path
from benchmarks.card.neighbour import DriverMemory
from benchmarks.card.results import NEEDS_CARD, ResultFile, Row, guarded
from benchmarks.card.runner import run_step
from benchmarks.card.summary import summarise

ROOT = Path(__file__).parents[2]
MB = 2**20


@pytest.fixture
def results(tmp_path: Path) -> ResultFile:
    return ResultFile(tmp_path / "card.jsonl")


def run(results: ResultFile, script: str, *, limit: float = 60) -> str:
    log = results.path.with_suffix(".log")
    return run_step("load", [sys.executable, "-c", script], results=results, log=log, limit=limit, environ=os.environ)


def run_dry(folder: Path, *arguments: str) -> Sequence[str]:
    """Return the lines that the command prints."""
    command = [sys.executable, "-m", "benchmarks.card", "--dry", *arguments, "--folder", str(folder / "material")]
    command += ["--output", str(folder / "card.jsonl"), "--summary", str(folder / "card.md")]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.full
@pytest.mark.parametrize("steps", [("load", "types"), pytest.param(tuple(STEPS), marks=pytest.mark.slow)], ids=len)
def test_steps_run_on_a_cpu_and_finished_ones_are_skipped(tmp_path: Path, steps: tuple[str, ...]) -> None:
    run_dry(tmp_path, *steps)
    results = ResultFile(tmp_path / "card.jsonl")
    for name in (MATERIAL, *steps):
        step = results.step(name)
        assert step is not None and step.state == "done" and step.rows, (name, step)
        assert [row for row in step.rows if row.error] == []
    summary = (tmp_path / "card.md").read_text()
    assert [name for name in steps if f"\n## {name}\n" not in summary] == []
    assert "whisper-server on CPU only" in summary and NEEDS_CARD in summary
    assert run_dry(tmp_path, *steps)[2:-1] == [f"{name}: done before; --again repeats it" for name in steps]


def test_the_last_run_of_a_step_counts(results: ResultFile) -> None:
    assert results.step("load") is None
    for state, figure in (("failed", 1), ("done", 2)):
        results.start("load")
        results.add("load", Row("a", {"x": figure}))
        results.add("memory", Row("b"))
        results.end("load", state, 3.0)  # type: ignore[arg-type]
    with results.path.open("a") as file:
        file.write('{"kind": "row", "st')  # the process was killed
    step = results.step("load")
    assert step is not None
    assert (step.state, step.seconds, [row.figures for row in step.rows]) == ("done", 3.0, [{"x": 2}])


def test_results_of_another_card_are_not_mixed(results: ResultFile) -> None:
    results.describe({"card": "NVIDIA H100", "driver": "580"})
    results.describe({"card": "NVIDIA H100", "driver": "581"})
    with pytest.raises(ValueError, match="has the results of NVIDIA H100: name another file"):
        results.describe({"card": "NVIDIA L4"})
    assert results.machine()["driver"] == "581"


def test_a_measurement_that_fails_is_a_row_with_its_traceback() -> None:
    row = guarded("int8", lambda: Row("never", {"x": 1 // 0}))
    assert row.what == "int8" and row.holds is False and "ZeroDivisionError" in row.error


def test_a_step_that_crashes_is_recorded_with_the_end_of_its_log(results: ResultFile) -> None:
    script = "import os, signal; print('loading', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    assert run(results, script) == "failed"
    step = results.step("load")
    assert step is not None and "SIGSEGV" in step.error and "loading" in step.error


def test_a_step_that_takes_too_long_leaves_no_process(results: ResultFile, tmp_path: Path) -> None:
    """Neither a child that ignores the request to end, nor the step itself."""
    child = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); signal.pause()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, signal; {child}'])"
    assert run(results, script, limit=2) == "timed out"
    pid = int((tmp_path / "card.log").read_text())
    status = Path(f"/proc/{pid}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
    step = results.step("load")
    assert step is not None and step.state == "timed out" and step.seconds < 30


def test_a_step_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    step = "import signal; from benchmarks.card.runner import die_with_parent as die; die(); "
    step += "print(1, flush=True); signal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", step],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.stdin.close()
        assert process.wait(30) == -signal.SIGKILL


def test_a_summary_has_verdicts_goals_and_errors(results: ResultFile) -> None:
    results.describe({"card": "NVIDIA L4", "driver": "580"})
    results.start("load")
    results.add("load", Row("int8", {"MB": 3}, "it loads", True))
    results.add("load", Row("float16", {"s": 1}, "it loads", False))
    results.add("load", Row("idle", note=NEEDS_CARD))
    results.add("load", Row("float32", holds=False, error="Traceback:\nRuntimeError: no"))
    results.end("load", "done", 12)
    page = summarise(results, {"load": "Does it load?", "live": "How late?"})
    assert page.startswith("# whisper-server on NVIDIA L4\n")
    for line in (
        "| load | done | 12 | 1 | 2 | 1 |",
        "| live | not run |  |  |  |  |",
        "Goal: it loads.",
        "| int8 | 3 |  | yes |",
        "| float16 |  | 1 | **no** |",
        "| idle |  |  | needs a card |",
        "| float32 |  |  | **failed** |",
        "    RuntimeError: no",
    ):
        assert line in page.splitlines(), page


def make_libraries(folder: Path, version: int) -> Path:
    folder.mkdir(parents=True)
    for name in ("libcublas.so", "libcublasLt.so"):
        (folder / f"{name}.{version}").write_bytes(b"")
    return folder


def test_cublas_13_is_used_under_the_name_of_version_12(tmp_path: Path) -> None:
    newer = make_libraries(tmp_path / "site" / "nvidia" / "cu13" / "lib", 13)
    found, path = find_cublas([str(tmp_path / "site")], tmp_path / "links", system=())
    assert found.startswith("cuBLAS 13") and path == [tmp_path / "links", newer]
    assert (tmp_path / "links" / "libcublas.so.12").resolve() == newer / "libcublas.so.13"
    older = make_libraries(tmp_path / "site" / "nvidia" / "cublas" / "lib", 12)
    assert find_cublas([str(tmp_path / "site")], tmp_path / "links", system=()) == (f"cuBLAS 12 in {older}", [older])
    assert find_cublas([], tmp_path / "links", system=())[1] == []
    assert with_library_path({"LD_LIBRARY_PATH": "/a"}, [older])["LD_LIBRARY_PATH"] == f"{older}:/a"
    assert with_library_path({"A": "b"}, []) == {"A": "b"}


class FakeDriver:
    """A GPU of 1 GiB with CUDA's driver interface. Another program has `others` bytes of it."""

    def __init__(self) -> None:
        self.blocks: dict[int, int] = {}
        self.others = 0
        self.broken = False

    @property
    def free(self) -> int:
        return 1024 * MB - self.others - sum(self.blocks.values())

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        ctypes.cast(free, ctypes.POINTER(ctypes.c_size_t))[0] = self.free
        return 0

    def cuMemAlloc_v2(self, pointer: Any, size: ctypes.c_size_t) -> int:
        if self.free < size.value:
            return 2
        address = len(self.blocks) + 1
        self.blocks[address] = size.value
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint64))[0] = address
        return 0

    def cuMemFree_v2(self, block: ctypes.c_uint64) -> int:
        del self.blocks[block.value]
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 100 if self.broken else 0


def test_a_neighbour_leaves_what_it_is_told_to_leave() -> None:
    driver = FakeDriver()
    memory = DriverMemory(driver, block=64 * MB)
    memory.leave(200 * MB)
    assert 200 * MB <= memory.free_bytes() < 264 * MB
    memory.leave(700 * MB)
    assert 700 * MB <= memory.free_bytes() < 764 * MB
    driver.others = 500 * MB
    memory.leave(400 * MB)
    assert 400 * MB <= memory.free_bytes() < 464 * MB
    memory.give_back()
    assert driver.blocks == {}


def test_a_driver_without_a_gpu_is_an_error() -> None:
    driver = FakeDriver()
    driver.broken = True
    with pytest.raises(RuntimeError, match="cuInit fails with error 100"):
        DriverMemory(driver)


def test_without_a_gpu_the_command_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.card", "--output", str(tmp_path / "card.jsonl")]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([*command, "load"], cwd=ROOT, capture_output=True, text=True, env=environ)
    assert done.returncode == 1 and "there is no GPU to measure" in done.stderr
    unknown = subprocess.run([*command, "loud"], cwd=ROOT, capture_output=True, text=True, env=environ)
    assert unknown.returncode == 2 and "no step is called loud" in unknown.stderr
    assert not (tmp_path / "card.jsonl").exists()


def test_lines_are_written_as_they_are_measured(results: ResultFile) -> None:
    results.add("load", Row("é", {"s": 1.5}))
    (line,) = map(json.loads, results.path.read_text(encoding="utf-8").splitlines())
    assert (line["kind"], line["step"], line["what"], line["figures"]) == ("row", "load", "é", {"s": 1.5})
