"""The progress of `whisper-server submit`: a bar for each file on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from whisper_server.cli.client.jobs_client import FINAL, Job

# More bars than this would scroll off the screen.
_MAX_BARS = 12


class ProgressDisplay:
    """Writes to standard error, so that standard output has the results only."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        self._console.print(line, markup=False)

    @contextmanager
    def uploading(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for an upload of `size` bytes; yields a function to call with the number of bytes just sent."""
        task = self._progress.add_task(name, total=size, state="uploading")
        try:
            yield partial(self._progress.advance, task)
        finally:
            self._progress.remove_task(task)

    def show(self, name: str, job: Job) -> None:
        """Show the progress of a job."""
        task = self._tasks.get(job["id"])
        if task is None:
            visible = len(self._progress.tasks) < _MAX_BARS
            task = self._tasks[job["id"]] = self._progress.add_task(name, total=1.0, state="", visible=visible)
        self._progress.update(task, completed=job["progress"], state=_describe(job))
        if job["state"] == "running":
            self._progress.update(task, visible=True)
        if not self._console.is_terminal and job["state"] not in (*FINAL, self._states.get(job["id"])):
            self.print(f"{name}: {_describe(job)}")
        self._states[job["id"]] = job["state"]

    def finish(self, name: str, job: Job, line: str) -> None:
        """Replace the bar with a line."""
        if (task := self._tasks.pop(job["id"], None)) is not None:
            self._progress.remove_task(task)
        self.print(f"{name}: {line}")


def _describe(job: Job) -> str:
    if job.get("waiting_for_storage"):
        return "waiting until the server can store jobs again"
    if job["state"] == "queued":
        if job.get("waiting_for_model"):
            return f"waiting for a server with model {job['model']}"
        position = job.get("position")
        return "queued" if not position else f"queued, {position} ahead"
    speed = job.get("speed")
    return f"{job['state']}, {speed:.1f} × real time" if speed else str(job["state"])
