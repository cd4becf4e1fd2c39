from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from whisper_server.api.responses.keepalive_response import (
    EVENTS,
    JSON,
    BodyFormat,
    KeepAliveBody,
    KeepAliveResponse,
    keepalive_interval,
)
from whisper_server.core.errors import BadAudio

Work = Callable[[KeepAliveBody], Awaitable[Response | None]]


class Connection:
    """Records what the response sends; the work continues after `fillers` messages."""

    def __init__(self, fillers: int = 0) -> None:
        self.messages: list[Message] = []
        self.fillers_sent = anyio.Event()
        self._fillers = fillers
        if not fillers:
            self.fillers_sent.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def complete(self) -> bool:
        return not self.messages[-1].get("more_body", False)

    async def receive(self) -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) > self._fillers:
            self.fillers_sent.set()


def respond(work: Work, *, body_format: BodyFormat = JSON, fillers: int = 0) -> Connection:
    async def run() -> Connection:
        connection = Connection(fillers)

        async def work_after_fillers(body: KeepAliveBody) -> Response | None:
            await connection.fillers_sent.wait()
            return await work(body)

        response = KeepAliveResponse(work_after_fillers, body_format, interval=0.001 if fillers else 3600)
        await response({"type": "http", "path": "/v1"}, connection.receive, connection.send)
        return connection

    return anyio.run(run)


async def succeeds(body: KeepAliveBody) -> Response:
    return JSONResponse({"text": "x"}, 201)


async def fails(body: KeepAliveBody) -> Response:
    raise BadAudio("broken")


async def writes(body: KeepAliveBody) -> None:
    await body.write(b"data: 1\n\n")


async def writes_and_fails(body: KeepAliveBody) -> None:
    await body.write(b"data: 1\n\n")
    raise BadAudio("broken")


def test_a_quick_response_is_sent_unchanged() -> None:
    connection = respond(succeeds)
    assert connection.messages[0]["status"] == 201
    assert connection.body == b'{"text":"x"}'


def test_a_late_response_comes_after_spaces() -> None:
    connection = respond(succeeds, fillers=3)
    assert connection.messages[0]["status"] == 200
    assert connection.body.startswith(b"  ")
    assert json.loads(connection.body) == {"text": "x"}
    assert connection.complete


def test_a_quick_error_is_raised() -> None:
    with pytest.raises(BadAudio):
        respond(fails)


def test_a_late_error_is_written_to_an_incomplete_body() -> None:
    connection = respond(fails, fillers=3)
    assert json.loads(connection.body)["error"]["message"] == "broken"
    assert not connection.complete


def test_comments_keep_an_event_stream_alive() -> None:
    connection = respond(writes, body_format=EVENTS, fillers=3)
    assert connection.body.startswith(b": \n\n: \n\n")
    assert connection.body.endswith(b"data: 1\n\n")
    assert connection.complete


def test_an_error_after_the_first_event_is_an_event() -> None:
    connection = respond(writes_and_fails, body_format=EVENTS)
    first, error = connection.body.decode().strip().split("\n\n")
    assert first == "data: 1"
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "invalid_request_error"
    assert connection.complete


def test_a_disconnect_cancels_the_work() -> None:
    async def run() -> None:
        async def disconnect() -> Message:
            return {"type": "http.disconnect"}

        async def endless(body: KeepAliveBody) -> None:
            await anyio.sleep_forever()

        with pytest.raises(ClientDisconnect):
            await KeepAliveResponse(endless)({"type": "http"}, disconnect, Connection().send)

    anyio.run(run)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, 20), ("600", 20), ("30", 10), ("0.0001", 0.1), ("0", 20), ("-1", 20), ("nan", 20), ("NOT_GIVEN", 20)],
)
def test_the_interval_is_shorter_than_the_clients_read_timeout(timeout: Any, seconds: float) -> None:
    headers = [] if timeout is None else [(b"x-stainless-read-timeout", timeout.encode())]
    assert keepalive_interval(Request({"type": "http", "headers": headers})) == seconds
