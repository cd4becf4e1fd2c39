"""Server-sent events as bytes (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "text/event-stream"
# Clients ignore comments; proxies and clients see that the connection is alive.
KEEP_ALIVE = b": \n\n"


def sse(data: Mapping[str, Any], *, event: str = "", id: int | None = None) -> bytes:
    """Return an event with JSON data and, if given, its type and id."""
    lines = [] if id is None else [f"id: {id}"]
    lines += [f"event: {event}"] if event else []
    lines += [f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}"]
    return ("\n".join(lines) + "\n\n").encode()
