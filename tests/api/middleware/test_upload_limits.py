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
    """Sends these parts, and then nothing for ever."""

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


def test_a_body_passes_through() -> None:
    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            message = await receive()
            got.append(message.get("body", b""))

    serve(UploadLimitMiddleware(app, max_uploads=1, timeout=1), Client(part(2), LAST, {"type": "http.disconnect"}))
    assert got == [b"xx", b"end", b""]


@pytest.mark.parametrize("parts", [[], [part()], [part(), part()]])
def test_a_client_that_stops_sending_is_given_up(parts: Sequence[Message]) -> None:
    with pytest.raises(UploadTimedOut):
        serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=0.05), Client(*parts))


def test_a_client_that_sends_a_byte_now_and_then_is_given_up() -> None:
    """Each byte comes in time, and all of them at far less than 500 bytes a second."""
    with pytest.raises(UploadTimedOut):
        serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=0.1), Client(*[part(1)] * 1000, pause=0.02))


def test_a_client_that_sends_slowly_but_enough_may_take_its_time() -> None:
    serve(UploadLimitMiddleware(read_all, max_uploads=1, timeout=1), Client(*[part(100)] * 100, LAST, pause=0.02))


def test_what_comes_after_the_body_may_take_for_ever() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(scope, receive, send)
        with anyio.move_on_after(0.2) as waiting:
            await receive()
        assert waiting.cancelled_caught

    serve(UploadLimitMiddleware(app, max_uploads=1, timeout=0.05), Client(LAST))


def test_one_upload_too_many_is_refused_and_the_next_is_not() -> None:
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


def test_a_request_whose_body_nobody_reads_takes_no_place() -> None:
    async def run() -> None:
        uploads = UploadLimitMiddleware(read_nothing, max_uploads=1, timeout=60)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(uploads, SCOPE, Client().receive, send)

    anyio.run(run)


def test_a_place_is_free_as_soon_as_the_body_is_here() -> None:
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
