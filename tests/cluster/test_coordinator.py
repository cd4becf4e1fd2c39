from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from whisper_server.cluster.coordinator import Board, Failure, Order, Outcome, State


def state(model: str = "tiny.en", wanted: str = "") -> State:
    return State(model, {"status": "ready"}, [{"id": model}], "", wanted)


class Replica:
    """Reports, and does what it is told unless it cannot."""

    def __init__(self, board: Board, id: str, *, fails: frozenset[str] = frozenset(), model: str = "tiny.en") -> None:
        self.board = board
        self.id = id
        self.fails = fails
        self.model = model
        self.done: list[str] = []

    async def live(self) -> None:
        outcome: Outcome | None = None
        while True:
            order = await self.board.report(self.id, state(self.model), outcome)
            outcome = self.obey(order) if order is not None else None

    def obey(self, order: Order) -> Outcome:
        self.done.append(order.model)
        if order.model in self.fails:
            return Outcome(order.number, failure=Failure(404, f"no model {order.model}", "model_not_found", "model"))
        self.model = order.model
        return Outcome(order.number, order.model)


def among(*replicas: Replica, act: Callable[[Board], Awaitable[object]]) -> object:
    """Return what comes out of the act while these replicas live."""

    async def run() -> object:
        board = replicas[0].board
        tasks = [asyncio.create_task(replica.live()) for replica in replicas]
        while len(await board.replicas()) < len(replicas):
            await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(act(board), 20)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


@pytest.fixture
def board() -> Board:
    return Board(patience=0.05)


def test_all_replicas_load_a_model(board: Board) -> None:
    replicas = [Replica(board, id) for id in "abc"]
    outcome = among(*replicas, act=lambda board: board.reload("base"))
    assert isinstance(outcome, Outcome)
    assert (outcome.model, outcome.failure) == ("base", None)
    assert [replica.model for replica in replicas] == ["base"] * 3
    assert asyncio.run(board.wanted()) == "base"


def test_one_after_the_other(board: Board) -> None:
    loading: list[str] = []

    class Slow(Replica):
        async def live(self) -> None:
            while True:
                order = await self.board.report(self.id, state(self.model))
                if order is not None:
                    loading.append(self.id)
                    assert len(loading) == 1
                    await asyncio.sleep(0)
                    loading.remove(self.id)
                    self.model = order.model
                    await self.board.report(self.id, state(self.model), Outcome(order.number, order.model))

    replicas = [Slow(board, id) for id in "ab"]
    among(*replicas, act=lambda board: board.reload("base"))
    assert [replica.model for replica in replicas] == ["base"] * 2


def test_when_the_first_fails_no_other_is_asked(board: Board) -> None:
    first, second = Replica(board, "a", fails=frozenset({"base"})), Replica(board, "b")
    outcome = among(first, second, act=lambda board: board.reload("base"))
    assert isinstance(outcome, Outcome)
    assert outcome.failure == Failure(404, "no model base", "model_not_found", "model")
    assert (first.model, second.model, second.done) == ("tiny.en", "tiny.en", [])
    assert asyncio.run(board.wanted()) == ""


def test_when_a_later_one_fails_those_before_go_back(board: Board) -> None:
    first, second = Replica(board, "a"), Replica(board, "b", fails=frozenset({"base"}))
    outcome = among(first, second, act=lambda board: board.reload("base"))
    assert isinstance(outcome, Outcome) and outcome.failure is not None
    assert first.done == ["base", "tiny.en"]
    assert (first.model, second.model) == ("tiny.en", "tiny.en")


def test_a_replica_that_goes_meanwhile_is_not_waited_for() -> None:
    board = Board(patience=0.01, silence=0.1)

    async def run() -> Outcome:
        await board.report("a", state())
        return await asyncio.wait_for(board.reload("base"), 20)

    outcome = asyncio.run(run())
    assert outcome.failure is not None and outcome.failure.status == 503
    assert asyncio.run(board.replicas()) == {}


def test_nobody_is_there(board: Board) -> None:
    outcome = asyncio.run(board.reload("base"))
    assert outcome.failure is not None and outcome.failure.status == 503


def test_who_leaves_is_not_counted(board: Board) -> None:
    async def run() -> list[str]:
        await board.report("a", state())
        await board.report("b", state())
        await board.leave("a")
        await board.leave("nobody")
        return list(await board.replicas())

    assert asyncio.run(run()) == ["b"]


def test_a_new_board_learns_from_the_replicas(board: Board) -> None:
    async def run() -> str:
        await board.report("a", state("base", wanted="base"))
        return await board.wanted()

    assert asyncio.run(run()) == "base"


def test_an_outcome_of_an_earlier_order_is_nothing(board: Board) -> None:
    """A board that begins anew may have told the replica's number to nobody."""

    async def run() -> Order | None:
        return await board.report("a", state(), Outcome(7, "base"))

    assert asyncio.run(run()) is None
