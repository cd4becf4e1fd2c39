from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from whisper_server.api.client_disconnect import while_connected
from whisper_server.core.errors import BadAudio


def outcome(receive: Callable[[], Awaitable[Message]], work: Callable[[], Awaitable[str]]) -> str:
    async def run() -> str:
        return await while_connected(Request({"type": "http"}, receive), work)

    return anyio.run(run)


async def stay_connected() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def disconnect() -> Message:
    return {"type": "http.disconnect"}


async def succeeds() -> str:
    await anyio.lowlevel.checkpoint()
    return "done"


async def fails() -> str:
    raise BadAudio("broken")


def test_a_connected_client_gets_the_result() -> None:
    assert outcome(stay_connected, succeeds) == "done"


def test_an_error_of_the_work_is_raised_unwrapped() -> None:
    with pytest.raises(BadAudio, match="broken"):
        outcome(stay_connected, fails)


def test_a_disconnect_cancels_the_work() -> None:
    ended: list[str] = []

    async def endless() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")
        return "never"

    with pytest.raises(ClientDisconnect):
        outcome(disconnect, endless)
    assert ended == ["cancelled"]
