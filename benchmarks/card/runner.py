"""Runs each step in a process group of its own, so that nothing of it is left when it ends, fails or takes too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

from benchmarks.card.results import ResultFile, Row, State

_GRACE_SECONDS = 5.0
_LOG_TAIL = 4000


def run_step(
    step: str, command: Sequence[str], *, results: ResultFile, log: Path, limit: float, environ: Mapping[str, str]
) -> State:
    """Run the command, which appends rows to the results, for at most `limit` seconds; its output goes to the log."""
    started = time.monotonic()
    results.start(step)
    with log.open("ab") as output:
        begin = output.tell()
        # The group is the session's. The pipe tells the process when this one has died (see `die_with_parent`).
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environ, start_new_session=True
        )
        try:
            state: State = "failed" if process.wait(limit) else "done"
        except subprocess.TimeoutExpired:
            state = "timed out"
        finally:
            _end_group(process)
    if state == "failed":
        results.fail(step, _describe_exit(process.returncode, log, begin))
    results.end(step, state, time.monotonic() - started)
    return state


def run_in_this_process(step: str, measure: Callable[[], Iterator[Row]], results: ResultFile) -> int:
    """Append the rows of the step, or the traceback of what it raises; returns the status to exit with."""
    try:
        for row in measure():
            results.add(step, row)
            print(f"{step}: {row.what}: {dict(row.figures)} {row.error}", file=sys.stderr, flush=True)
    except BaseException:  # benchmarks raise SystemExit, too
        results.fail(step, traceback.format_exc())
        return 1
    return 0


def die_with_parent() -> None:
    """End the whole process group when the parent has gone, which holds the other end of standard input."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.killpg(0, signal.SIGKILL)

    Thread(target=wait, name="wait for the parent's end", daemon=True).start()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask all processes of the group to end, and kill those that do not."""
    assert process.stdin is not None
    with suppress(ProcessLookupError):
        for how in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, how)
            _wait_until_empty(process, time.monotonic() + _GRACE_SECONDS)
    process.wait()
    process.stdin.close()


def _wait_until_empty(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Raises ProcessLookupError once the group has no processes; returns at the deadline."""
    while time.monotonic() < deadline:
        process.poll()
        os.killpg(process.pid, 0)
        time.sleep(0.05)


def _describe_exit(status: int, log: Path, begin: int) -> str:
    how = f"the process ended by {signal.Signals(-status).name}" if status < 0 else f"the process ended with {status}"
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _LOG_TAIL))
        return f"{how}; the end of its log:\n{file.read().decode(errors='replace')}"
