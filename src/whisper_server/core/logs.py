"""The log: one format for all loggers, with the ID of the request and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime, timezone

# Threads that work on a request run in a copy of its context.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# These log every step of the start and every file, which our own lines summarise.
LIBRARIES = ("faster_whisper", "httpx2", "httpx", "huggingface_hub")
VERBOSE_LOGGERS = ("uvicorn.error", *LIBRARIES)

# Libraries log headers and whole URLs at level debug.
_SECRETS = re.compile(r"(?i)(api_key=|openai-insecure-api-key\.|(?:bearer|token)(?:\s+|,\s*))[^\s&\"',\\]+")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)}
_LINE_BREAKS = {10: "\\n", 13: "\\r", 0x85: "\\x85", 0x2028: "\\u2028", 0x2029: "\\u2029"}
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
        record.message = record.message.translate(_CONTROLS | _LINE_BREAKS)
        request = request_id.get()
        return super().formatMessage(record) + (f" [{request}]" if request else "")

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
        return _mask_secrets(json.dumps(line, default=str, ensure_ascii=False))


def _is_extra(name: str) -> bool:
    """Whether it was passed as `extra`; libraries such as Ray add attributes with a leading underscore."""
    return name not in _STANDARD_ATTRIBUTES and not name.startswith("_")


def _mask_secrets(text: str) -> str:
    return _SECRETS.sub(r"\1***", text)


_FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JSONFormatter}
