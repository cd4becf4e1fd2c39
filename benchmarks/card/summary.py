"""The results as a page in Markdown: the machine, what holds and what does not, and a table for each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.card.results import NEEDS_CARD, ResultFile, Row, StepResult
from benchmarks.report import markdown_table

_TEXT = ("what", "holds", "", "value", "step", "result")
_VERDICTS = {True: "yes", False: "**no**", None: "–"}


def summarise(results: ResultFile, steps: Mapping[str, str]) -> str:
    """`steps` has the name and the question of each step."""
    machine = results.machine()
    runs = {name: results.step(name) for name in steps}
    parts = [f"# whisper-server on {machine.get('card', 'an unknown card')}", _machine_table(machine), _overview(runs)]
    parts += [_section(name, steps[name], run) for name, run in runs.items() if run is not None]
    return "\n\n".join(parts) + "\n"


def _machine_table(machine: Mapping[str, Any]) -> str:
    rows = [[name, str(value)] for name, value in machine.items() if name not in ("kind", "time")]
    return markdown_table(["", "value"], rows, text_columns=_TEXT)


def _overview(runs: Mapping[str, StepResult | None]) -> str:
    cells = []
    for name, run in runs.items():
        if run is None:
            cells.append([name, "not run", "", "", "", ""])
            continue
        counts = [sum(row.holds is verdict for row in run.rows) for verdict in (True, False)]
        waiting = sum(row.note == NEEDS_CARD for row in run.rows)
        cells.append([name, run.state, f"{run.seconds:g}", *map(str, counts), str(waiting)])
    titles = ["step", "result", "seconds", "goals that hold", "that do not", NEEDS_CARD]
    return markdown_table(titles, cells, text_columns=_TEXT)


def _section(name: str, question: str, run: StepResult) -> str:
    parts = [f"## {name}", question, *_goals(run.rows)]
    if run.rows:
        parts.append(_table(run.rows))
    parts += [f"- {row.what}:\n\n{_indented(row.error or row.note)}" for row in run.rows if _details(row)]
    if run.error:
        parts.append(f"The step {run.state}:\n\n{_indented(run.error)}")
    return "\n\n".join(parts)


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    for goal in dict.fromkeys(row.goal for row in rows if row.goal):
        yield f"Goal: {goal}."


def _table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row.figures))
    cells = [[row.what, *(_cell(row.figures.get(column)) for column in columns), _verdict(row)] for row in rows]
    return markdown_table(["what", *columns, "holds"], cells, text_columns=_TEXT)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _verdict(row: Row) -> str:
    if row.error and not row.figures:
        return "**failed**"
    return row.note if row.note and not _details(row) else _VERDICTS[row.holds]


def _details(row: Row) -> bool:
    """Whether the row has text that does not fit into the table."""
    return bool(row.error) or "\n" in row.note


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())
