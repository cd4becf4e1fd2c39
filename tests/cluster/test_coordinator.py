from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from whisper_server.cluster.coordinator import Coordinator, Failure, ReloadCommand, ReloadResult, ReplicaState


def state(model: str = "tiny.en", target_model: str = "") -> ReplicaState:
    return ReplicaState(model, {"status": "ready"}, [{"id": model}], "", target_model)


class Replica:
    """Reports and executes commands; loading the models in `broken` fails."""

    def __init__(
        self, coordinator: Coordinator, id: str, *, broken: frozenset[str] = frozenset(), model: str = "tiny.en"
    ) -> None:
        self.coordinator = coordinator
        self.id = id
        self.broken = broken
        self.model = model
        self.commands: list[str] = []

    async def run(self) -> None:
        result: ReloadResult | None = None
        while True:
            command = await self.coordinator.report(self.id, state(self.model), result)
            result = self.execute(command) if command is not None else None

    def execute(self, command: ReloadCommand) -> ReloadResult:
        self.commands.append(command.model)
        if command.model in self.broken:
            failure = Failure(404, f"no model {command.model}", "model_not_found", "model")
            return ReloadResult(command.number, failure=failure)
        self.model = command.model
        return ReloadResult(command.number, command.model)


def with_running(*replicas: Replica, act: Callable[[Coordinator], Awaitable[object]]) -> object:
    """Return the result of `act`, called while these replicas run."""

    async def run() -> object:
        coordinator = replicas[0].coordinator
        tasks = [asyncio.create_task(replica.run()) for replica in replicas]
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
    return Coordinator(poll_timeout=0.05)


def test_all_replicas_load_a_model(coordinator: Coordinator) -> None:
    replicas = [Replica(coordinator, id) for id in "abc"]
    result = with_running(*replicas, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(result, ReloadResult)
    assert (result.model, result.failure) == ("base", None)
    assert [replica.model for replica in replicas] == ["base"] * 3
    assert asyncio.run(coordinator.target_model()) == "base"


def test_replicas_load_one_after_the_other(coordinator: Coordinator) -> None:
    loading: list[str] = []

    class Slow(Replica):
        async def run(self) -> None:
            while True:
                command = await self.coordinator.report(self.id, state(self.model))
                if command is not None:
                    loading.append(self.id)
                    assert len(loading) == 1
                    await asyncio.sleep(0)
                    loading.remove(self.id)
                    self.model = command.model
                    result = ReloadResult(command.number, command.model)
                    await self.coordinator.report(self.id, state(self.model), result)

    replicas = [Slow(coordinator, id) for id in "ab"]
    with_running(*replicas, act=lambda coordinator: coordinator.reload("base"))
    assert [replica.model for replica in replicas] == ["base"] * 2


def test_no_other_replica_loads_when_the_first_fails(coordinator: Coordinator) -> None:
    first, second = Replica(coordinator, "a", broken=frozenset({"base"})), Replica(coordinator, "b")
    result = with_running(first, second, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(result, ReloadResult)
    assert result.failure == Failure(404, "no model base", "model_not_found", "model")
    assert (first.model, second.model, second.commands) == ("tiny.en", "tiny.en", [])
    assert asyncio.run(coordinator.target_model()) == ""


def test_earlier_replicas_roll_back_when_a_later_one_fails(coordinator: Coordinator) -> None:
    first, second = Replica(coordinator, "a"), Replica(coordinator, "b", broken=frozenset({"base"}))
    result = with_running(first, second, act=lambda coordinator: coordinator.reload("base"))
    assert isinstance(result, ReloadResult) and result.failure is not None
    assert first.commands == ["base", "tiny.en"]
    assert (first.model, second.model) == ("tiny.en", "tiny.en")


def test_a_reload_does_not_wait_for_a_replica_that_disappears() -> None:
    coordinator = Coordinator(poll_timeout=0.01, heartbeat_timeout=0.1)

    async def run() -> ReloadResult:
        await coordinator.report("a", state())
        return await asyncio.wait_for(coordinator.reload("base"), 20)

    result = asyncio.run(run())
    assert result.failure is not None and result.failure.status == 503
    assert asyncio.run(coordinator.replicas()) == {}


def test_a_reload_without_replicas_fails(coordinator: Coordinator) -> None:
    result = asyncio.run(coordinator.reload("base"))
    assert result.failure is not None and result.failure.status == 503


def test_a_replica_that_leaves_is_removed(coordinator: Coordinator) -> None:
    async def run() -> list[str]:
        await coordinator.report("a", state())
        await coordinator.report("b", state())
        await coordinator.leave("a")
        await coordinator.leave("unknown")
        return list(await coordinator.replicas())

    assert asyncio.run(run()) == ["b"]


def test_a_restarted_coordinator_learns_the_target_model_from_a_report(coordinator: Coordinator) -> None:
    async def run() -> str:
        await coordinator.report("a", state("base", target_model="base"))
        return await coordinator.target_model()

    assert asyncio.run(run()) == "base"


def test_the_result_of_an_unknown_command_is_ignored(coordinator: Coordinator) -> None:
    """A restarted coordinator may get the result of a command that it did not issue."""

    async def run() -> ReloadCommand | None:
        return await coordinator.report("a", state(), ReloadResult(7, "base"))

    assert asyncio.run(run()) is None
