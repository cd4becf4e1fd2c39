"""What was said, as it is said: certain words solid, those that may still change dim."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO
from unicodedata import combining, east_asian_width

_ERASE = "\x1b[K"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Display(Protocol):
    def show(self, message: Mapping[str, Any]) -> None:
        """Show a message of the server's."""

    def close(self) -> None: ...


class LineDisplay:
    """A line for each utterance, once it is over."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "final" and message["text"]:
            print(message["text"], file=self._out, flush=True)

    def close(self) -> None:
        pass


class JSONDisplay:
    """The server's messages as they are, one a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, message: Mapping[str, Any]) -> None:
        print(json.dumps(message, ensure_ascii=False), file=self._out, flush=True)

    def close(self) -> None:
        pass


class TerminalDisplay:
    """A terminal. What may change is kept within the current line, so that erasing that line erases it."""

    def __init__(self, out: TextIO, columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns) -> None:
        self._out = out
        self._columns = columns
        self._column = 0
        self._solid = ""

    def show(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "partial":
            self._write(message["confirmed"], _printable(message["pending"]))
        elif message["type"] == "final":
            self._write(message["text"], "")
            self._end_line()

    def close(self) -> None:
        self._out.write(_ERASE)
        self._end_line()

    def _write(self, solid: str, pending: str) -> None:
        """Go on with the solid text, which never changes, and show what is pending after it."""
        self._out.write(_ERASE + self._wrapped(_printable(solid[len(self._solid) :])))
        self._solid = solid
        tail = _cut(pending, self._columns() - self._column - 1)
        if tail:
            self._out.write(f"{_DIM}{tail}{_PLAIN}\x1b[{_width(tail)}D")
        self._out.flush()

    def _wrapped(self, added: str) -> str:
        wrapped = ""
        for word in added.split(" "):
            space = " " if wrapped or added.startswith(" ") else ""
            if not word:
                continue
            if self._column and self._column + _width(space + word) >= self._columns():
                wrapped, self._column, space = wrapped + "\n", 0, ""
            space = space if self._column else ""
            wrapped += space + word
            self._column += _width(space + word)
        return wrapped

    def _end_line(self) -> None:
        if self._column:
            self._out.write("\n")
        self._out.flush()
        self._column, self._solid = 0, ""


def _printable(text: str) -> str:
    """Without what would drive the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _cut(text: str, columns: int) -> str:
    width = 0
    for at, letter in enumerate(text):
        width += _width(letter)
        if width > columns:
            return text[:at]
    return text


def _width(text: str) -> int:
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)
