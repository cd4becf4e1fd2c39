from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import pytest

from whisper_server import __version__
from whisper_server.cli.terminal import JSONDisplay, LineDisplay, TerminalDisplay, startup_lines

STEPS = re.compile(r"\x1b\[(\d*)([KmD])|(\n)|([^\x1b\n]+)")


def partial(confirmed: str, pending: str = "") -> Mapping[str, Any]:
    return {"type": "partial", "confirmed": confirmed, "pending": pending}


def final(text: str) -> Mapping[str, Any]:
    return {"type": "final", "text": text}


class Terminal(io.StringIO):
    """Emulates a terminal with this number of columns; dim text is in capitals, and a line that wraps is an error."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def rows(self) -> list[str]:
        rows, row, column, dim = [], list[str](), 0, False
        for step in STEPS.finditer(self.getvalue()):
            number, command, line_break, text = step.groups()
            if line_break:
                rows.append("".join(row))
                row, column = [], 0
            elif text:
                shown = text.upper() if dim else text
                row[column : column + len(text)] = shown
                column += len(text)
                assert column <= self.columns
            elif command == "K":
                del row[column:]
            elif command == "D":
                column -= int(number)
            else:
                dim = number == "2"
        return [*rows, "".join(row)]


def shown(*messages: Mapping[str, Any], columns: int = 40) -> list[str]:
    terminal = Terminal(columns)
    screen = TerminalDisplay(terminal, lambda: columns)
    for message in messages:
        screen.show(message)
    return terminal.rows()


def test_confirmed_words_are_solid_and_pending_words_dim() -> None:
    assert shown(partial("", "the kettle")) == ["THE KETTLE"]
    assert shown(partial("", "the cattle"), partial("The kettle", " is")) == ["The kettle IS"]
    assert shown(partial("The", " kettle is on"), partial("The kettle")) == ["The kettle"]


def test_each_utterance_is_a_line() -> None:
    assert shown(partial("Yes", " tea"), final("Yes, tea."), partial("", "no")) == ["Yes, tea.", "NO"]
    assert shown(final("Yes."), final(""), final("No.")) == ["Yes.", "No.", ""]


def test_long_utterances_wrap_between_words() -> None:
    messages = [
        partial("one two three"),
        partial("one two three four five", " six seven"),
        final("one two three four five six"),
    ]
    assert shown(*messages[:2], columns=16) == ["one two three", "four five SIX S"]
    assert shown(*messages, columns=16) == ["one two three", "four five six", ""]


def test_pending_words_never_wrap() -> None:
    assert shown(partial("one", " two three four"), columns=10) == ["one TWO T"]
    assert shown(partial("one two 34", " five"), partial("one two 34 five"), columns=10) == ["one two", "34 five"]


def test_wide_characters_take_two_columns() -> None:
    out = io.StringIO()
    TerminalDisplay(out, lambda: 10).show(partial("", "東京は今日も晴れです"))
    assert out.getvalue() == "\x1b[K\x1b[2m東京は今\x1b[0m\x1b[8D"


def test_text_cannot_control_the_terminal() -> None:
    out = io.StringIO()
    TerminalDisplay(out, lambda: 80).show(final("a\x1b[2Jb\nc"))
    assert out.getvalue() == "\x1b[Ka [2Jb c\n"


def test_closing_keeps_confirmed_words() -> None:
    terminal = Terminal(40)
    screen = TerminalDisplay(terminal, lambda: 40)
    screen.show(partial("The", " kettle"))
    screen.close()
    screen.close()
    assert terminal.rows() == ["The", ""]


@pytest.mark.parametrize("message", [{"type": "ready"}, {"type": "speech", "t": 1}, {"type": "lag", "seconds": 4}])
def test_other_messages_show_nothing(message: Mapping[str, Any]) -> None:
    assert shown(message) == [""]


def test_line_and_json_displays() -> None:
    lines, messages = io.StringIO(), io.StringIO()
    for message in (partial("Die", " Kät"), final(""), final("Die Kälte.")):
        LineDisplay(lines).show(message)
        JSONDisplay(messages).show(message)
    assert lines.getvalue() == "Die Kälte.\n"
    assert [json.loads(line)["type"] for line in messages.getvalue().splitlines()] == ["partial", "final", "final"]


@pytest.mark.parametrize("colours", [True, False])
def test_a_start_is_three_lines(monkeypatch: pytest.MonkeyPatch, colours: bool) -> None:
    monkeypatch.setenv("NO_COLOR", "" if colours else "1")
    out, steps = io.StringIO(), logging.getLogger("whisper_server.inference.models.loader")
    with startup_lines(out, "info") as show_ready:
        assert not steps.isEnabledFor(logging.INFO)
    assert steps.level == logging.NOTSET and logging.getLogger("whisper_server.inference").level == logging.NOTSET
    show_ready("tiny.en (cpu, int8)", "http://127.0.0.1:5000", "")
    lines = out.getvalue().splitlines()
    assert ("\x1b[" in lines[0]) == colours
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    ready = "➜  http://localhost:5000  (Ctrl+C to stop)"
    assert plain == [f"whisper-server {__version__}", "serving tiny.en (cpu, int8)", ready]
