"""Command lines, tables and JSON files that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of the benchmark, line by line."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    return platform.processor() or platform.machine()


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: Container[str] = ()) -> str:
    """Text columns are left-aligned, all others right-aligned."""
    lines = ["| " + " | ".join(title.strip() for title in titles) + " |"]
    lines.append("|" + "".join("---|" if title in text_columns else "---:|" for title in titles))
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_json(path: Path | None, report: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
