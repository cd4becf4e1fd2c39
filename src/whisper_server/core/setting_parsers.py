"""From the text of a flag or a variable to the value of a setting.

A parser raises ValueError, and the message says what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], int | float]:
    allowed = f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= value <= high:
            raise ValueError(allowed)
        return value

    return parse


def boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("true or false")


def matching(pattern: str, allowed: str, *, lower: bool = False) -> Callable[[str], str]:
    """Accept text that the whole pattern matches, in lower case where case does not matter."""

    def parse(text: str) -> str:
        text = text.lower() if lower else text
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(allowed)
        return text

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    return matching("|".join(choices), "one of " + ", ".join(choices), lower=True)


def comma_separated(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(parse(part.strip()) for part in text.split(","))


def device(text: str) -> str:
    text = _device(text)
    indices = [int(index) for index in re.findall(r"\d+", text)]
    if len(set(indices)) < len(indices):
        raise ValueError("each GPU once")
    return text


def byte_count(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)([KMGT]?)B?", text.strip().upper(), re.ASCII)
    if not match:
        raise ValueError("bytes such as 4G, 3500M or 4000000000; 0 is no limit")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


def name(text: str) -> str:
    if not text.strip():
        raise ValueError("a name")
    return text


def database_url(text: str) -> str:
    if not re.match(r"postgres(ql)?://[^/\s]*/\S|sqlite:///\S", text):
        raise ValueError("postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE")
    return re.sub("^postgres://", "postgresql://", text)


def _path(allowed: str, text: str) -> Path:
    path = os.path.expanduser(text)
    if not path.strip() or path.startswith("~"):
        raise ValueError(allowed)
    return Path(path)


file = partial(_path, "a file")
directory = partial(_path, "a directory")
_device = matching(r"auto|cpu|cuda(:\d{1,3}(,\d{1,3})*)?", "auto, cpu, cuda, cuda:N or cuda:N,M", lower=True)
# Short secrets could be guessed, and other characters could not be sent in a header.
api_keys = comma_separated(matching(r"[!-~]{16,512}", "keys of at least 16 visible characters, separated by commas"))
secret = matching(r"[!-~]{16,512}", "at least 16 visible characters")
_host = matching(
    r"\*|(\*\.)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?",
    "names without a port, such as whisper.example.org or *.example.org, or *",
    lower=True,
)
hosts = comma_separated(_host)
_origin = matching(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s,@]+", "origins such as https://example.org, or *", lower=True)
origins = comma_separated(_origin)
rate = matching(
    r"none|[1-9]\d{0,8}/(second|minute|hour|day)",
    "none or a number per second, minute, hour or day, such as 60/minute",
    lower=True,
)


def wyoming_uri(text: str) -> str:
    """Return tcp://HOST:PORT or unix:///PATH; a port alone is one of this machine's loopback address."""
    if re.fullmatch(r"\d{1,5}", text, re.ASCII):
        text = f"tcp://127.0.0.1:{text}"
    tcp = re.fullmatch(r"tcp://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(\d{1,5})/?", text, re.ASCII)
    if tcp and int(tcp[2]) <= 65535:
        return f"tcp://{tcp[1]}:{int(tcp[2])}"
    if re.fullmatch(r"unix:///[^\0\n]*[^\0\n/]", text):
        return text
    raise ValueError("tcp://HOST:PORT, such as tcp://0.0.0.0:10300, unix:///PATH, or a port of this machine")


root_path = matching(r"(/[A-Za-z0-9._~-]+)+", "a path such as /whisper")
storage_url = matching(r"[a-z][a-z0-9+.-]*://\S+", "a URL that fsspec supports, such as s3://BUCKET/PATH")
