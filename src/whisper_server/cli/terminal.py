"""What commands show on a terminal: the start of a server, and the words of `whisper-server listen`."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from whisper_server import __version__
from whisper_server.core.logs import escape

_ERASE = "\x1b[K"
_BOLD, _DIM, _GREEN, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"


@contextmanager
def startup_lines(out: TextIO, log_level: str) -> Iterator[Callable[[str, str, str], None]]:
    """Print the version, then let the block load the model; yields a function that prints the model and the addresses.

    Its arguments are the model, the URL, and the address for Wyoming, which may be empty.

    At level info, the block's steps are not logged, as the model's line sums them up.
    """

    def show(line: str) -> None:
        if os.environ.get("NO_COLOR"):
            for code in (_BOLD, _DIM, _GREEN, _PLAIN):
                line = line.replace(code, "")
        print(line, file=out, flush=True)

    def show_ready(model: str, url: str, wyoming: str) -> None:
        url = url.replace("127.0.0.1", "localhost").replace("[::1]", "localhost")
        show(f"{_DIM}serving{_PLAIN} {model}")
        show(f"{_GREEN}➜{_PLAIN}  {_BOLD}{url}{_PLAIN}  {_DIM}(Ctrl+C to stop){_PLAIN}")
        if wyoming:
            show(f"{_GREEN}➜{_PLAIN}  {wyoming}  {_DIM}(Wyoming){_PLAIN}")

    steps = logging.getLogger("whisper_server.inference")
    show(f"{_BOLD}whisper-server{_PLAIN} {__version__}")
    if log_level == "info":
        steps.setLevel(logging.WARNING)
    try:
        yield show_ready
    finally:
        steps.setLevel(logging.NOTSET)


class LineDisplay:
    """The transcript of `listen`: one line for each utterance, when it is final."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, message: Mapping[str, Any]) -> None:
        """Show a message from the server."""
        if message["type"] == "final" and message["text"]:
            print(message["text"], file=self._out, flush=True)

    def close(self) -> None:
        pass


class JSONDisplay(LineDisplay):
    """The unchanged messages of the server, one per line."""

    def show(self, message: Mapping[str, Any]) -> None:
        print(json.dumps(message, ensure_ascii=False), file=self._out, flush=True)


class TerminalDisplay(LineDisplay):
    """Pending words stay within the current line of the terminal, so that erasing this line removes them."""

    def __init__(self, out: TextIO, columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns) -> None:
        super().__init__(out)
        self._columns = columns
        self._column = 0
        self._confirmed = ""

    def show(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "partial":
            self._write(message["confirmed"], _replace_controls(message["pending"]))
        elif message["type"] == "final":
            self._write(message["text"], "")
            self._end_line()

    def close(self) -> None:
        self._out.write(_ERASE)
        self._end_line()

    def _write(self, confirmed: str, pending: str) -> None:
        """Append what is new of the confirmed text, which never changes, and show the pending text after it."""
        self._out.write(_ERASE + self._wrap(_replace_controls(confirmed[len(self._confirmed) :])))
        self._confirmed = confirmed
        tail = _truncate(pending, self._columns() - self._column - 1)
        if tail:
            self._out.write(f"{_DIM}{tail}{_PLAIN}\x1b[{_width(tail)}D")
        self._out.flush()

    def _wrap(self, added: str) -> str:
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
        self._column, self._confirmed = 0, ""


def _replace_controls(text: str) -> str:
    """Replace control characters, which could control the terminal."""
    return escape(text, lambda _: " ")


def _truncate(text: str, columns: int) -> str:
    width = 0
    for index, character in enumerate(text):
        width += _width(character)
        if width > columns:
            return text[:index]
    return text


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
