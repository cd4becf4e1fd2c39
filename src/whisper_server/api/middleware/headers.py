"""Adds headers to a response."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def with_headers(send: Send, headers: Callable[[], Mapping[str, str]]) -> Send:
    """Return a `send` that adds the result of `headers()` when the response starts."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] in _STARTS:
            message.setdefault("headers", [])
            MutableHeaders(scope=message).update(headers())
        await send(message)

    return send_with_headers
