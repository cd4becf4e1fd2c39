from __future__ import annotations

import anyio
import pytest

from whisper_server.core.errors import Overloaded, ServerStopping, TooManyRequests
from whisper_server.live.session_limits import SessionLimits


def limits_of(max_sessions: int = 2, max_sessions_per_key: int = 0) -> SessionLimits:
    return SessionLimits(
        max_sessions=max_sessions, max_sessions_per_key=max_sessions_per_key, idle_timeout=1, max_seconds=1
    )


def test_sessions_beyond_the_limit_are_refused() -> None:
    limits = limits_of()
    with limits.admit("stream", None), limits.admit("listen", "laptop"):
        assert (limits.current["stream"], limits.current["listen"]) == (1, 1)
        with pytest.raises(Overloaded) as caught, limits.admit("stream", None):
            pass
        assert caught.value.headers == {"retry-after": "5"}
    assert limits.current.total() == 0
    with limits.admit("stream", None):
        pass
    assert limits.opened == {"stream": 2, "listen": 1}


def test_sessions_of_one_key_beyond_its_limit_are_refused() -> None:
    limits = limits_of(max_sessions=9, max_sessions_per_key=1)
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
    limits = limits_of(max_sessions_per_key=1)
    with limits.admit("stream", None), limits.admit("stream", None):
        pass


def test_a_limit_of_zero_refuses_every_session() -> None:
    with pytest.raises(Overloaded), limits_of(max_sessions=0).admit("stream", None):
        pass


def test_draining_waits_for_the_last_session_and_admits_none() -> None:
    async def drain() -> list[str]:
        limits, order = limits_of(), list[str]()

        async def hold_session() -> None:
            with limits.admit("stream", None):
                await limits.stopping.wait()
                with pytest.raises(ServerStopping), limits.admit("stream", None):
                    pass
                order.append("session")

        async with anyio.create_task_group() as group:
            group.start_soon(hold_session)
            await anyio.wait_all_tasks_blocked()
            await limits.drain(20)
            order.append("drained")
        return order

    assert anyio.run(drain) == ["session", "drained"]


def test_draining_ends_at_its_timeout() -> None:
    async def drain() -> None:
        limits = limits_of()
        with limits.admit("stream", None):
            await limits.drain(0.01)
        await limits_of().drain(20)

    anyio.run(drain)
