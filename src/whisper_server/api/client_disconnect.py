"""Work that ends with the client's connection."""

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
    """Return what the work returns; cancel it and raise ClientDisconnect if the client leaves first.

    What is to run `beside` the work ends with it.

    The request's body must have been read: from then on all that can arrive is the end of the connection.
    """
    outcome: Future[T] = Future()
    async with create_task_group() as group:
        group.start_soon(_cancel_on_disconnect, request.receive, group.cancel_scope)
        group.start_soon(beside)
        try:
            outcome.set_result(await work())
        except Exception as exc:  # not to be wrapped in the group's exception: it is raised below as it is
            outcome.set_exception(exc)
        group.cancel_scope.cancel()
    if not outcome.done():
        raise ClientDisconnect
    return outcome.result()


async def _cancel_on_disconnect(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
