from __future__ import annotations

import anyio
import pytest

from whisper_server.core.errors import Overloaded, ServerStopping, TooManyRequests
from whisper_server.live.session_limits import Sessions


def sessions(most: int = 2, most_per_key: int = 0) -> Sessions:
    return Sessions(most=most, most_per_key=most_per_key, idle=1, longest=1)


def test_there_are_so_many_places_and_no_more() -> None:
    places = sessions()
    with places.place("stream", None), places.place("listen", "laptop"):
        assert (places.current["stream"], places.current["listen"]) == (1, 1)
        with pytest.raises(Overloaded) as caught, places.place("stream", None):
            pass
        assert caught.value.headers == {"retry-after": "5"}
    assert places.current.total() == 0
    with places.place("stream", None):
        pass
    assert places.opened == {"stream": 2, "listen": 1}


def test_one_key_may_be_given_less() -> None:
    places = sessions(most=9, most_per_key=1)
    with (
        places.place("stream", "laptop"),
        places.place("stream", "phone"),
        pytest.raises(TooManyRequests),
        places.place("listen", "laptop"),
    ):
        pass
    with places.place("stream", "laptop"):
        pass


def test_without_a_key_only_the_total_counts() -> None:
    places = sessions(most_per_key=1)
    with places.place("stream", None), places.place("stream", None):
        pass


def test_none_at_all() -> None:
    with pytest.raises(Overloaded), sessions(most=0).place("stream", None):
        pass


def test_draining_waits_for_the_last_and_lets_nobody_in() -> None:
    async def drained() -> list[str]:
        places, order = sessions(), list[str]()

        async def talk() -> None:
            with places.place("stream", None):
                await places.stopping.wait()
                with pytest.raises(ServerStopping), places.place("stream", None):
                    pass
                order.append("session")

        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            await anyio.wait_all_tasks_blocked()
            await places.drain(20)
            order.append("drained")
        return order

    assert anyio.run(drained) == ["session", "drained"]


def test_draining_does_not_wait_for_ever() -> None:
    async def drained() -> None:
        places = sessions()
        with places.place("stream", None):
            await places.drain(0.01)
        await sessions().drain(20)

    anyio.run(drained)
