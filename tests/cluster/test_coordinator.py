from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from whisper_server.cluster.coordinator import Coordinator, Failure, Outcome, ReloadCommand, State


def state(model: str = "tiny.en", wanted: str = "") -> State:
    return State(model, {"status": "ready"}, [{"id": model}], "", wanted)


class Replica:
    """Reports, and does what it is told unless it cannot."""

    def __init__(
        self, coordinator: Coordinator, id: str, *, fails: frozenset[str] = frozenset(), model: str = "tiny.en"
    ) -> None:
        self.coordinator = coordinator
        self.id = id
        self.fails = fails
        self.model = model
        self.done: list[str] = []

    async def live(self) -> None:
        outcome: Outcome | None = None
        while True:
            command = await self.coordinator.report(self.id, state(self.model), outcome)
            outcome = self.obey(command) if command is not None else None

    def obey(self, command: ReloadCommand) -> Outcome:
        self.done.append(command.model)
        if command.model in self.fails:
            return Outcome(
                command.number, failure=Failure(404, f"no model {command.model}", "model_not_found", "model")
            )
        self.model = command.model
        return Outcome(command.number, command.model)


def among(*replicas: Replica, act: Callable[[Coordinator], Awaitable[object]]) -> object:
    """Return what comes out of the act while these replicas live."""

    async def run() -> object:
        coordinator = replicas[0].coordinator
        tasks = [asyncio.create_task(replica.live()) for replica in replicas]
        while len(await coordinator.replicas()) < len(replicas):
            await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(act(coordinator), 20)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator(patience=0.05)


def test_all_replicas_load_a_model(coordinator: Coordinator) -> None:
    replicas = [Replica(coordinator, id) for id in "abc"]
    outcome = among(*replicas, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(outcome, Outcome)
    assert (outcome.model, outcome.failure) == ("base", None)
    assert [replica.model for replica in replicas] == ["base"] * 3
    assert asyncio.run(coordinator.wanted()) == "base"


def test_one_after_the_other(coordinator: Coordinator) -> None:
    loading: list[str] = []

    class Slow(Replica):
        async def live(self) -> None:
            while True:
                command = await self.coordinator.report(self.id, state(self.model))
                if command is not None:
                    loading.append(self.id)
                    assert len(loading) == 1
                    await asyncio.sleep(0)
                    loading.remove(self.id)
                    self.model = command.model
                    await self.coordinator.report(self.id, state(self.model), Outcome(command.number, command.model))

    replicas = [Slow(coordinator, id) for id in "ab"]
    among(*replicas, act=lambda coordinator: coordinator.reload("base"))
    assert [replica.model for replica in replicas] == ["base"] * 2


def test_when_the_first_fails_no_other_is_asked(coordinator: Coordinator) -> None:
    first, second = Replica(coordinator, "a", fails=frozenset({"base"})), Replica(coordinator, "b")
    outcome = among(first, second, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(outcome, Outcome)
    assert outcome.failure == Failure(404, "no model base", "model_not_found", "model")
    assert (first.model, second.model, second.done) == ("tiny.en", "tiny.en", [])
    assert asyncio.run(coordinator.wanted()) == ""


def test_when_a_later_one_fails_those_before_go_back(coordinator: Coordinator) -> None:
    first, second = Replica(coordinator, "a"), Replica(coordinator, "b", fails=frozenset({"base"}))
    outcome = among(first, second, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(outcome, Outcome) and outcome.failure is not None
    assert first.done == ["base", "tiny.en"]
    assert (first.model, second.model) == ("tiny.en", "tiny.en")


def test_a_replica_that_goes_meanwhile_is_not_waited_for() -> None:
    coordinator = Coordinator(patience=0.01, silence=0.1)

    async def run() -> Outcome:
        await coordinator.report("a", state())
        return await asyncio.wait_for(coordinator.reload("base"), 20)

    outcome = asyncio.run(run())
    assert outcome.failure is not None and outcome.failure.status == 503
    assert asyncio.run(coordinator.replicas()) == {}


def test_nobody_is_there(coordinator: Coordinator) -> None:
    outcome = asyncio.run(coordinator.reload("base"))
    assert outcome.failure is not None and outcome.failure.status == 503


def test_who_leaves_is_not_counted(coordinator: Coordinator) -> None:
    async def run() -> list[str]:
        await coordinator.report("a", state())
        await coordinator.report("b", state())
        await coordinator.leave("a")
        await coordinator.leave("nobody")
        return list(await coordinator.replicas())

    assert asyncio.run(run()) == ["b"]


def test_a_new_board_learns_from_the_replicas(coordinator: Coordinator) -> None:
    async def run() -> str:
        await coordinator.report("a", state("base", wanted="base"))
        return await coordinator.wanted()

    assert asyncio.run(run()) == "base"


def test_an_outcome_of_an_earlier_order_is_nothing(coordinator: Coordinator) -> None:
    """A board that begins anew may have told the replica's number to nobody."""

    async def run() -> ReloadCommand | None:
        return await coordinator.report("a", state(), Outcome(7, "base"))

    assert asyncio.run(run()) is None
