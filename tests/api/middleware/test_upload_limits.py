from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from whisper_server.api.middleware.upload_limits import UploadLimitMiddleware
from whisper_server.core.errors import Overloaded, UploadTimedOut

SCOPE = {"type": "http", "path": "/a"}
LAST: Message = {"type": "http.request", "body": b"end", "more_body": False}


def part(size: int = 10) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": True}


class Client:
    """Sends these parts, and then nothing more."""

    def __init__(self, *parts: Message, pause: float = 0.0) -> None:
        self._parts = list(parts)
        self._pause = pause

    async def receive(self) -> Message:
        if not self._parts:
            await anyio.sleep_forever()
        await anyio.sleep(self._pause)
        return self._parts.pop(0)


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass


async def read_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def send(message: Message) -> None:
    raise AssertionError


def serve(uploads: UploadLimitMiddleware, client: Client) -> None:
    anyio.run(uploads, SCOPE, client.receive, send)


def test_a_body_is_passed_through() -> None:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            message = await receive()
            bodies.append(message.get("body", b""))

    serve(UploadLimitMiddleware(app, max_uploads=1, timeout=1), Client(part(2), LAST, {"type": "http.disconnect"}))
    assert bodies == [b"xx", b"end", b""]


@pytest.mark.parametrize("parts", [[], [part()], [part(), part()]])
def test_an_upload_that_stops_times_out(parts: Sequence[Message]) -> None:
    with pytest.raises(UploadTimedOut):
        serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=0.05), Client(*parts))


def test_an_upload_of_occasional_bytes_times_out() -> None:
    """Each byte arrives within the timeout, but the rate is far below 500 bytes per second."""
    with pytest.raises(UploadTimedOut):
        serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=0.1), Client(*[part(1)] * 1000, pause=0.02))


def test_a_slow_upload_above_the_minimum_rate_is_accepted() -> None:
    serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=1), Client(*[part(100)] * 100, LAST, pause=0.02))


def test_waiting_after_the_end_of_the_body_has_no_timeout() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(scope, receive, send)
        with anyio.move_on_after(0.2) as waiting:
            await receive()
        assert waiting.cancelled_caught

    serve(UploadLimitMiddleware(app, max_uploads=1, timeout=0.05), Client(LAST))


def test_an_upload_above_the_limit_is_refused_until_another_ends() -> None:
    async def run() -> None:
        uploads = UploadLimitMiddleware(read_all, max_uploads=2, timeout=60)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(uploads, SCOPE, Client(part()).receive, send)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Overloaded, match="2 uploads"):
                await uploads(SCOPE, Client(LAST).receive, send)
            group.cancel_scope.cancel()
        for _ in range(3):
            await uploads(SCOPE, Client(LAST).receive, send)

    anyio.run(run)


def test_a_request_whose_body_is_not_read_does_not_count() -> None:
    async def run() -> None:
        uploads = UploadLimitMiddleware(read_nothing, max_uploads=1, timeout=60)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(uploads, SCOPE, Client().receive, send)

    anyio.run(run)


def test_an_upload_stops_counting_when_its_body_is_complete() -> None:
    async def run() -> None:
        finish = anyio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read_all(scope, receive, send)
            await finish.wait()

        uploads = UploadLimitMiddleware(app, max_uploads=1, timeout=60)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(uploads, SCOPE, Client(part(), LAST).receive, send)
                await anyio.wait_all_tasks_blocked()
            finish.set()

    anyio.run(run)
