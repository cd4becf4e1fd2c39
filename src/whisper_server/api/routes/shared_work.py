"""Work with an upload that goes on after the endpoint has returned, and that a retry of the request can join."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, BinaryIO, TypeVar

from starlette.concurrency import run_in_threadpool

from whisper_server.api.single_flight import fingerprint, is_retry, may_retry
from whisper_server.api.state import ServerRequest

T = TypeVar("T")


async def shared_work(
    request: ServerRequest,
    resources: AsyncExitStack,
    file: BinaryIO,
    options: Any,
    work: Callable[[], Awaitable[T]],
) -> Callable[[], Awaitable[T]]:
    """Return the work, which takes over the resources, or that of the request which this one retries.

    `options` are those of the request: a retry has the same, and the same file.
    """
    if not may_retry(request):
        return partial(with_resources, resources.pop_all(), work)
    single_flight = request.state.single_flight
    key = await run_in_threadpool(fingerprint, request, file, options)
    in_flight = single_flight.find(key) if is_retry(request) else None
    if in_flight is None:
        in_flight = single_flight.start(key, partial(with_resources, resources.pop_all(), work))
    return partial(single_flight.wait, key, in_flight)


async def with_resources(resources: AsyncExitStack, work: Callable[..., Awaitable[T]], **options: object) -> T:
    """Do the work, then close the file and release the admission."""
    async with resources:
        return await work(**options)
