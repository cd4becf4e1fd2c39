from __future__ import annotations

import io
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.abc import TaskGroup
from starlette.requests import Request

from whisper_server.api.single_flight import SingleFlight, fingerprint, is_retry, may_retry
from whisper_server.core.errors import BadAudio


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Request({"type": "http", "path": "/v1", "headers": raw, "server": ("x", 80), "query_string": b""})


def with_retries(test: Callable[[SingleFlight, TaskGroup], Awaitable[None]], *, grace: float) -> None:
    async def run() -> None:
        async with anyio.create_task_group() as group:
            await test(SingleFlight(group, grace=grace), group)
            group.cancel_scope.cancel()

    anyio.run(run)


class Slow:
    """Work that tells when it has begun and how it ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = anyio.Event()
        self.cancelled = anyio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.may_end.wait()
        except BaseException:
            self.cancelled.set()
            raise
        return "done"


async def leave_while_waiting(single_flight: SingleFlight, key: str, work: Slow) -> None:
    with anyio.CancelScope() as scope:
        shared = single_flight.start(key, work)
        scope.cancel()
        await single_flight.wait(key, shared)


def test_a_retry_joins_the_work_of_a_client_that_has_left() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await leave_while_waiting(single_flight, "a", work)
        again = single_flight.find("a")
        assert again is not None
        work.may_end.set()
        assert await single_flight.wait("a", again) == "done"
        assert work.begun == 1

    with_retries(test, grace=3600)


def test_without_a_retry_the_work_ends_after_the_grace() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await leave_while_waiting(single_flight, "a", work)
        await work.cancelled.wait()
        await anyio.lowlevel.checkpoint()
        assert single_flight.find("a") is None

    with_retries(test, grace=0)


def test_an_earlier_departure_does_not_end_what_was_joined_since() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await leave_while_waiting(single_flight, "a", work)
        again = single_flight.find("a")
        assert again is not None
        group.start_soon(single_flight.wait, "a", again)
        await anyio.wait_all_tasks_blocked()
        assert not work.cancelled.is_set()
        work.may_end.set()
        assert await single_flight.wait("a", again) == "done"

    with_retries(test, grace=0)


def test_an_error_is_kept_for_the_retry() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        async def fails() -> str:
            raise BadAudio("broken")

        shared = single_flight.start("a", fails)
        for _ in range(2):
            with pytest.raises(BadAudio):
                await single_flight.wait("a", shared)
        assert single_flight.find("a") is shared

    with_retries(test, grace=3600)


def test_what_is_kept_has_a_bound() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        async def done() -> int:
            return 1

        for number in range(300):
            await single_flight.wait(str(number), single_flight.start(str(number), done))
        assert [number for number in range(300) if single_flight.find(str(number))] == list(range(44, 300))

    with_retries(test, grace=3600)


def test_only_openais_clients_may_come_back() -> None:
    assert (may_retry(request()), is_retry(request())) == (False, False)
    first, second = request(x_stainless_retry_count="0"), request(x_stainless_retry_count="1")
    assert (may_retry(first), is_retry(first), may_retry(second), is_retry(second)) == (True, False, True, True)


def test_a_fingerprint_is_of_the_caller_the_options_and_the_file() -> None:
    def fingerprint_of(key: str = "k", file: bytes = b"audio", options_text: str = "options") -> str:
        upload = io.BytesIO(file)
        digest = fingerprint(request(authorization=key), upload, options_text)
        assert upload.tell() == 0
        return digest

    assert fingerprint_of() == fingerprint_of()
    assert (
        len(
            {
                fingerprint_of(),
                fingerprint_of(key="other"),
                fingerprint_of(file=b"other"),
                fingerprint_of(options_text="other"),
            }
        )
        == 4
    )
