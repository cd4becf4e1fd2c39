"""Text from clients: without NUL, which PostgreSQL cannot store, and lone surrogates, which UTF-8 cannot encode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from whisper_server.core.errors import BadOption, BadRequest

_INVALID = re.compile("[\0\ud800-\udfff]")


def check_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Raises BadOption if a name or a value is not valid text."""
    for name, value in pairs:
        if _INVALID.search(name) or _INVALID.search(value):
            raise BadOption(_INVALID.sub("�", name), value, "text without NUL characters and lone surrogates")


def parse_json(data: str | bytes) -> Any:
    """Return the content of a JSON text; raises ValueError or RecursionError, also if a string is not valid text."""
    text = data if isinstance(data, str) else data.decode()
    content = json.loads(text, parse_constant=_refuse_constant)
    # In valid UTF-8, only escapes can yield these characters.
    if "\\u" in text and any(map(_INVALID.search, _strings(content))):
        raise ValueError("a string has a NUL character or a lone surrogate")
    return content


def parse_json_object(data: bytes, *, example: str) -> dict[str, Any]:
    """Return the members of a JSON object, such as that of the example; raises BadRequest."""
    try:
        content = parse_json(data)
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON, or a string has NUL characters or lone surrogates") from exc
    if not isinstance(content, dict):
        raise BadRequest(f"the body is not a JSON object such as {example}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _strings(content: Any) -> Iterator[str]:
    """Yield all strings of a JSON value, names of members included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield name
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)
