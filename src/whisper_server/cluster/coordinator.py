"""What the replicas of a deployment know of each other, and what they are told to do, one after the other.

Knows nothing of Ray. It keeps nothing that the replicas do not tell it again if it has to begin anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Replicas that say nothing for so many seconds are not counted any more.
_SILENCE = 10.0
_RELOAD = 1800.0


@dataclass(frozen=True, slots=True)
class State:
    """What a replica tells of itself. `wanted` is the model that it was last told to serve, or nothing."""

    model: str
    ready: Mapping[str, str]
    models: Sequence[Mapping[str, Any]]
    metrics: str
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that is to be another process's answer."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class ReloadCommand:
    """Serve that model."""

    number: int
    model: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`model` is the id of the one that is served now."""

    number: int
    model: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class _ReplicaRecord:
    state: State
    seen: float
    command: ReloadCommand | None = None
    commanded: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: asyncio.Future[Outcome] | None = None


class Coordinator:
    """`patience` is how long a report may wait for an order, in seconds."""

    def __init__(self, *, patience: float = 1.0, silence: float = _SILENCE) -> None:
        self._patience = patience
        self._silence = silence
        self._replicas: dict[str, _ReplicaRecord] = {}
        self._reloading = asyncio.Lock()
        self._orders = 0
        self._wanted = ""

    async def wanted(self) -> str:
        """Return the model that replicas were last told to serve, or nothing."""
        return self._wanted

    async def replicas(self) -> dict[str, State]:
        self._forget_the_silent()
        return {id: agent.state for id, agent in sorted(self._replicas.items())}

    async def report(self, id: str, state: State, outcome: Outcome | None = None) -> ReloadCommand | None:
        """Note what a replica says; returns what it is to do, after a while if that is nothing."""
        agent = self._replicas.setdefault(id, _ReplicaRecord(state, 0.0))
        agent.state, agent.seen = state, time.monotonic()
        self._wanted = self._wanted or state.wanted
        if outcome is not None:
            self._settle(agent, outcome)
        if agent.command is None:
            agent.commanded.clear()
            try:
                await asyncio.wait_for(agent.commanded.wait(), self._patience)
            except asyncio.TimeoutError:
                return None
        return agent.command

    async def leave(self, id: str) -> None:
        """The replica ends."""
        self._drop(id)

    async def reload(self, model: str) -> Outcome:
        """Let all replicas serve that model, one after the other.

        If one of them fails, those before it go back to what they had, and its outcome is returned.
        """
        async with self._reloading:
            before: dict[str, str] = {}
            last = Outcome(0, failure=Failure(503, "no replica is there to load a model; try again later"))
            while (id := self._next(before)) is not None:
                before[id] = self._replicas[id].state.model
                outcome = await self._order(id, model)
                if outcome is None:
                    continue
                if outcome.failure is not None:
                    await self._take_back(before, id)
                    return outcome
                last = outcome
            if last.failure is None:
                self._wanted = model
            return last

    def _next(self, done: Mapping[str, str]) -> str | None:
        """A replica whose turn has not come yet; some come while others load."""
        self._forget_the_silent()
        return next((id for id in sorted(self._replicas) if id not in done), None)

    async def _take_back(self, before: Mapping[str, str], failed: str) -> None:
        for id, model in before.items():
            if id != failed and id in self._replicas:
                await self._order(id, model)

    async def _order(self, id: str, model: str) -> Outcome | None:
        """Return what comes out of it, or None if the replica goes meanwhile."""
        self._orders += 1
        agent = self._replicas[id]
        agent.command = ReloadCommand(self._orders, model)
        agent.outcome = asyncio.get_running_loop().create_future()
        agent.commanded.set()
        deadline = time.monotonic() + _RELOAD
        while not agent.outcome.done() and time.monotonic() < deadline:
            await asyncio.wait({agent.outcome}, timeout=self._patience)
            self._forget_the_silent()
            if id not in self._replicas:
                return None
        if agent.outcome.done():
            return agent.outcome.result()
        agent.command = None
        return Outcome(self._orders, failure=Failure(504, f"a replica did not load {model} in time"))

    def _settle(self, agent: _ReplicaRecord, outcome: Outcome) -> None:
        if agent.command is not None and agent.command.number == outcome.number:
            agent.command = None
            if agent.outcome is not None and not agent.outcome.done():
                agent.outcome.set_result(outcome)

    def _forget_the_silent(self) -> None:
        since = time.monotonic() - self._silence
        for id in [id for id, agent in self._replicas.items() if agent.seen < since]:
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._replicas.pop(id, None)
