"""Work that is cancelled when the client disconnects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from anyio import CancelScope, create_task_group, sleep_forever
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

T = TypeVar("T")


async def while_connected(
    request: Request[Any],
    work: Callable[[], Awaitable[T]],
    beside: Callable[[], Coroutine[Any, Any, None]] = sleep_forever,
) -> T:
    """Return the result of the work; cancel it and raise ClientDisconnect if the client disconnects first.

    `beside` runs at the same time and is cancelled at the end of the work. The request's body must have been read:
    the only message still to come is the disconnect.
    """
    result: Future[T] = Future()
    async with create_task_group() as group:
        group.start_soon(_cancel_on_disconnect, request.receive, group.cancel_scope)
        group.start_soon(beside)
        try:
            result.set_result(await work())
        except Exception as exc:  # raised below, so that the task group does not wrap it in an ExceptionGroup
            result.set_exception(exc)
        group.cancel_scope.cancel()
    if not result.done():
        raise ClientDisconnect
    return result.result()


async def _cancel_on_disconnect(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
