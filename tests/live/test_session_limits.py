from __future__ import annotations

import anyio
import pytest

from whisper_server.core.errors import Overloaded, ServerStopping, TooManyRequests
from whisper_server.live.session_limits import SessionLimits


def sessions(most: int = 2, most_per_key: int = 0) -> SessionLimits:
    return SessionLimits(most=most, most_per_key=most_per_key, idle=1, longest=1)


def test_there_are_so_many_places_and_no_more() -> None:
    limits = sessions()
    with limits.admit("stream", None), limits.admit("listen", "laptop"):
        assert (limits.current["stream"], limits.current["listen"]) == (1, 1)
        with pytest.raises(Overloaded) as caught, limits.admit("stream", None):
            pass
        assert caught.value.headers == {"retry-after": "5"}
    assert limits.current.total() == 0
    with limits.admit("stream", None):
        pass
    assert limits.opened == {"stream": 2, "listen": 1}


def test_one_key_may_be_given_less() -> None:
    limits = sessions(most=9, most_per_key=1)
    with (
        limits.admit("stream", "laptop"),
        limits.admit("stream", "phone"),
        pytest.raises(TooManyRequests),
        limits.admit("listen", "laptop"),
    ):
        pass
    with limits.admit("stream", "laptop"):
        pass


def test_without_a_key_only_the_total_counts() -> None:
    limits = sessions(most_per_key=1)
    with limits.admit("stream", None), limits.admit("stream", None):
        pass


def test_none_at_all() -> None:
    with pytest.raises(Overloaded), sessions(most=0).admit("stream", None):
        pass


def test_draining_waits_for_the_last_and_lets_nobody_in() -> None:
    async def drained() -> list[str]:
        limits, order = sessions(), list[str]()

        async def talk() -> None:
            with limits.admit("stream", None):
                await limits.stopping.wait()
                with pytest.raises(ServerStopping), limits.admit("stream", None):
                    pass
                order.append("session")

        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            await anyio.wait_all_tasks_blocked()
            await limits.drain(20)
            order.append("drained")
        return order

    assert anyio.run(drained) == ["session", "drained"]


def test_draining_does_not_wait_for_ever() -> None:
    async def drained() -> None:
        limits = sessions()
        with limits.admit("stream", None):
            await limits.drain(0.01)
        await sessions().drain(20)

    anyio.run(drained)
