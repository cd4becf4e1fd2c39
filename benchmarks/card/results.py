"""The results of a run on one card: a file of JSON lines that grows as figures are measured."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["done", "failed", "timed out", "not finished"]
NEEDS_CARD = "needs a card"
_NOT_FINISHED = {"state": "not finished", "seconds": 0.0}


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one measurement, what is expected of them, and whether it holds; None means that nothing is known."""

    what: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    goal: str = ""
    holds: bool | None = None
    note: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The last run of a step."""

    state: State
    seconds: float
    rows: tuple[Row, ...]
    error: str = ""


def guarded(what: str, measure: Callable[[], Row]) -> Row:
    """Return the row, or one with the traceback: a measurement that fails does not stop those after it."""
    try:
        return measure()
    except Exception:
        return Row(what, holds=False, error=traceback.format_exc())


def guarded_rows(what: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows, and then one with the traceback if what measures them fails."""
    try:
        yield from rows
    except Exception:
        yield Row(what, holds=False, error=traceback.format_exc())


class ResultFile:
    """Several processes append lines to it, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def describe(self, machine: Mapping[str, Any]) -> None:
        """Write what the machine is; raises ValueError if the file has the results of another card."""
        earlier = self.machine().get("card", machine["card"])
        if earlier != machine["card"]:
            raise ValueError(f"{self.path} has the results of {earlier}: name another file with --output")
        self._append({"kind": "machine", **machine})

    def start(self, step: str) -> None:
        self._append({"kind": "start", "step": step})

    def add(self, step: str, row: Row) -> None:
        self._append({"kind": "row", "step": step, **asdict(row)})

    def fail(self, step: str, error: str) -> None:
        self._append({"kind": "error", "step": step, "error": error})

    def end(self, step: str, state: State, seconds: float) -> None:
        self._append({"kind": "end", "step": step, "state": state, "seconds": round(seconds, 1)})

    def machine(self) -> dict[str, Any]:
        """The last description of the machine, or an empty one."""
        return next((line for line in reversed(self._lines()) if line["kind"] == "machine"), {})

    def step(self, name: str) -> StepResult | None:
        """The last run of the step, or None if it has not started."""
        lines = [line for line in self._lines() if line.get("step") == name]
        starts = [at for at, line in enumerate(lines) if line["kind"] == "start"]
        if not starts:
            return None
        lines = lines[starts[-1] :]
        end: dict[str, Any] = next((line for line in lines if line["kind"] == "end"), _NOT_FINISHED)
        errors = [line["error"] for line in lines if line["kind"] == "error"]
        rows = tuple(_row(line) for line in lines if line["kind"] == "row")
        return StepResult(end["state"], end["seconds"], rows, "\n".join(errors))

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "time": round(time.time(), 1)}, ensure_ascii=False) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        """All complete lines; a process that was killed may have left half a line."""
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines


def _row(line: Mapping[str, Any]) -> Row:
    return Row(**{name: line[name] for name in Row.__slots__})
