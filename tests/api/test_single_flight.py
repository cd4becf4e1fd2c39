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
    """Work that counts its runs and notes when it is cancelled."""

    def __init__(self) -> None:
        self.runs = 0
        self.may_end = anyio.Event()
        self.cancelled = anyio.Event()

    async def __call__(self) -> str:
        self.runs += 1
        try:
            await self.may_end.wait()
        except BaseException:
            self.cancelled.set()
            raise
        return "done"


async def disconnect_while_waiting(single_flight: SingleFlight, key: str, work: Slow) -> None:
    with anyio.CancelScope() as scope:
        in_flight = single_flight.start(key, work)
        scope.cancel()
        await single_flight.wait(key, in_flight)


def test_a_retry_joins_the_work_of_a_disconnected_client() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await disconnect_while_waiting(single_flight, "a", work)
        joined = single_flight.find("a")
        assert joined is not None
        work.may_end.set()
        assert await single_flight.wait("a", joined) == "done"
        assert work.runs == 1

    with_retries(test, grace=3600)


def test_work_without_a_retry_is_cancelled_after_the_grace_period() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await disconnect_while_waiting(single_flight, "a", work)
        await work.cancelled.wait()
        await anyio.lowlevel.checkpoint()
        assert single_flight.find("a") is None

    with_retries(test, grace=0)


def test_an_earlier_disconnect_does_not_cancel_work_that_a_retry_joined() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        work = Slow()
        await disconnect_while_waiting(single_flight, "a", work)
        joined = single_flight.find("a")
        assert joined is not None
        group.start_soon(single_flight.wait, "a", joined)
        await anyio.wait_all_tasks_blocked()
        assert not work.cancelled.is_set()
        work.may_end.set()
        assert await single_flight.wait("a", joined) == "done"

    with_retries(test, grace=0)


def test_an_error_is_kept_for_the_retry() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        async def fails() -> str:
            raise BadAudio("broken")

        in_flight = single_flight.start("a", fails)
        for _ in range(2):
            with pytest.raises(BadAudio):
                await single_flight.wait("a", in_flight)
        assert single_flight.find("a") is in_flight

    with_retries(test, grace=3600)


def test_the_number_of_kept_results_is_limited() -> None:
    async def test(single_flight: SingleFlight, group: TaskGroup) -> None:
        async def done() -> int:
            return 1

        for number in range(300):
            await single_flight.wait(str(number), single_flight.start(str(number), done))
        assert [number for number in range(300) if single_flight.find(str(number))] == list(range(44, 300))

    with_retries(test, grace=3600)


def test_only_openais_clients_are_expected_to_retry() -> None:
    assert (may_retry(request()), is_retry(request())) == (False, False)
    first, second = request(x_stainless_retry_count="0"), request(x_stainless_retry_count="1")
    assert (may_retry(first), is_retry(first), may_retry(second), is_retry(second)) == (True, False, True, True)


def test_a_fingerprint_depends_on_the_caller_the_options_and_the_file() -> None:
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
