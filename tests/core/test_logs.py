from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable

import pytest

from whisper_server.core.logs import JSONFormatter, TextFormatter, request_id

SECRET = "wsk-secret"


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.INFO, "", 0, message, args, None, extra=extra)


def in_request(id: str, action: Callable[[], str]) -> str:
    token = request_id.set(id)
    try:
        return action()
    finally:
        request_id.reset(token)


def test_a_line_logged_in_a_request_has_its_id() -> None:
    assert in_request("r1", lambda: TextFormatter().format(record("done"))).endswith(" INFO test: done [r1]")
    assert TextFormatter().format(record("done")).endswith(" INFO test: done")


def test_a_client_cannot_forge_lines() -> None:
    line = TextFormatter().format(record("%s", "/a\n2026-01-01 INFO forged\r\x1b[2K\x85\u2028é"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line and line.endswith("é")


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x1b", "\x7f", "\x9b", "\xad", "\u200b", "\u202e", "\u2066", "\ud800", "\U000e0001"]
)
def test_nothing_reaches_a_terminal_that_is_not_printable(formatter: logging.Formatter, character: str) -> None:
    failed = record("%s ü", f"/a{character}b", path=f"a{character}b")
    try:
        raise ValueError(f"a{character}b")
    except ValueError:
        failed.exc_info = sys.exc_info()
    text = formatter.format(failed)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "b ü" in text
    if isinstance(formatter, JSONFormatter):
        assert json.loads(text)["path"] == f"a{character}b"


def test_json_has_the_message_and_its_fields() -> None:
    line = in_request("r1", lambda: JSONFormatter().format(record("took %d s", 3, seconds=3, path="/a\nb", _of_ray=1)))
    fields = json.loads(line)
    assert "\n" not in line
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "info",
        "logger": "test",
        "message": "took 3 s",
        "request_id": "r1",
        "seconds": 3,
        "path": "/a\nb",
    }
    assert json.loads(JSONFormatter().format(record("done")))["request_id"] is None


def test_json_has_the_traceback() -> None:
    failed = record("failed")
    try:
        raise ValueError("broken")
    except ValueError:
        failed.exc_info = sys.exc_info()
    assert "ValueError: broken" in json.loads(JSONFormatter().format(failed))["exception"]
    assert TextFormatter().format(failed).endswith("ValueError: broken")


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
@pytest.mark.parametrize(
    "message",
    [
        f"GET /v1/realtime?model=a&api_key={SECRET}&b=1",
        f"< Authorization: Bearer {SECRET}",
        f"[(b'authorization', b'Bearer {SECRET}')]",
        f"sec-websocket-protocol: realtime, openai-insecure-api-key.{SECRET}, other",
    ],
)
def test_keys_are_masked(formatter: logging.Formatter, message: str) -> None:
    line = formatter.format(record(message))
    assert SECRET not in line and "***" in line
