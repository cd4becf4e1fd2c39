"""The log: one format for all loggers, with the ID of the request and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

# Threads that work on a request run in a copy of its context.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# These log every step of the start and every file, which our own lines summarise.
LIBRARIES = ("faster_whisper", "httpx2", "httpx", "huggingface_hub")
VERBOSE_LOGGERS = ("uvicorn.error", *LIBRARIES)

# Libraries log headers and whole URLs at level debug.
_SECRETS = re.compile(r"(?i)(api_key=|openai-insecure-api-key\.|(?:bearer|token)(?:\s+|,\s*))[^\s&\"',\\]+")
# The attributes of every record; all others were passed as `extra`.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure(level: str, log_format: str, *, quiet: Sequence[str] = VERBOSE_LOGGERS) -> None:
    """Log to standard error from this level on. At level info, the `quiet` loggers log warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level == "info":
        for name in quiet:
            logging.getLogger(name).setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """Writes a message as one line, even if a client sent line breaks; only tracebacks have several lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escape(record.message)
        request = request_id.get()
        return super().formatMessage(record) + (f" [{request}]" if request else "")

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(escape, super().formatException(ei).split("\n")))

    def format(self, record: logging.LogRecord) -> str:
        return _mask_secrets(super().format(record))


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get() or None,
            **{name: value for name, value in vars(record).items() if _is_extra(name)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str, ensure_ascii=False)
        return _mask_secrets(escape(text, lambda character: json.dumps(character)[1:-1]))


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def escape(text: str, escaped: Callable[[str], str] = _python_escape) -> str:
    """Escape what is not printable: controls, which a terminal obeys, line breaks, and marks of text direction."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escaped(character) for character in text)


def _is_extra(name: str) -> bool:
    """Whether it was passed as `extra`; libraries such as Ray add attributes with a leading underscore."""
    return name not in _STANDARD_ATTRIBUTES and not name.startswith("_")


def _mask_secrets(text: str) -> str:
    return _SECRETS.sub(r"\1***", text)


_FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JSONFormatter}
