"""The registry of a deployment's replicas, which also makes them reload models one after the other.

Does not depend on Ray. All its state comes from the replicas' reports, so it can restart at any time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

_HEARTBEAT_TIMEOUT = 10.0
_RELOAD_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What a replica reports. `target_model` is the model it was last commanded to serve, or an empty string."""

    model: str
    ready: Mapping[str, str]
    models: Sequence[Mapping[str, Any]]
    metrics: str
    target_model: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that one replica had and another one returns to the client."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class ReloadCommand:
    number: int
    model: str


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of the command with this number; `model` is the id of the loaded model."""

    number: int
    model: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class _ReplicaRecord:
    state: ReplicaState
    last_seen: float
    command: ReloadCommand | None = None
    command_issued: asyncio.Event = field(default_factory=asyncio.Event)
    result: asyncio.Future[ReloadResult] = field(default_factory=asyncio.Future)


class Coordinator:
    """Reports are long polls: each waits up to `poll_timeout` seconds for a command.

    A replica that has not reported for `heartbeat_timeout` seconds is removed.
    """

    def __init__(self, *, poll_timeout: float = 1.0, heartbeat_timeout: float = _HEARTBEAT_TIMEOUT) -> None:
        self._poll_timeout = poll_timeout
        self._heartbeat_timeout = heartbeat_timeout
        self._records: dict[str, _ReplicaRecord] = {}
        self._reloading = asyncio.Lock()
        self._numbers = count(1)
        self._target_model = ""

    async def target_model(self) -> str:
        """Return the model that the replicas were last commanded to serve, or an empty string."""
        return self._target_model

    async def replicas(self) -> dict[str, ReplicaState]:
        """Return the last reported state of each live replica by its id."""
        self._remove_expired()
        return {id: record.state for id, record in sorted(self._records.items())}

    async def report(self, id: str, state: ReplicaState, result: ReloadResult | None = None) -> ReloadCommand | None:
        """Store the state of a replica and the result of its last command; return its next command, if there is one."""
        record = self._records.setdefault(id, _ReplicaRecord(state, 0.0))
        record.state, record.last_seen = state, time.monotonic()
        self._target_model = self._target_model or state.target_model
        if result is not None and record.command is not None and record.command.number == result.number:
            record.command = None
            record.result.set_result(result)
        if record.command is None:
            record.command_issued.clear()
            try:
                await asyncio.wait_for(record.command_issued.wait(), self._poll_timeout)
            except asyncio.TimeoutError:
                return None
        return record.command

    async def leave(self, id: str) -> None:
        """Remove a replica that stops."""
        self._records.pop(id, None)

    async def reload(self, model: str) -> ReloadResult:
        """Make all replicas load the model, one after the other.

        If one of them fails, those before it load their previous model again, and the failure is returned.
        """
        async with self._reloading:
            previous: dict[str, str] = {}
            last = ReloadResult(0, failure=Failure(503, "no replica is there to load a model; try again later"))
            while (id := self._next_replica(previous)) is not None:
                previous[id] = self._records[id].state.model
                result = await self._command(id, model)
                if result is None:
                    continue
                if result.failure is not None:
                    await self._roll_back(previous, id)
                    return result
                last = result
            if last.failure is None:
                self._target_model = model
            return last

    def _next_replica(self, done: Mapping[str, str]) -> str | None:
        """Replicas may join while others load, so this looks at the live ones each time."""
        self._remove_expired()
        return next((id for id in sorted(self._records) if id not in done), None)

    async def _roll_back(self, previous: Mapping[str, str], failed: str) -> None:
        for id, model in previous.items():
            if id != failed and id in self._records:
                await self._command(id, model)

    async def _command(self, id: str, model: str) -> ReloadResult | None:
        """Return the result, or None if the replica leaves before it has one."""
        record = self._records[id]
        record.command = ReloadCommand(next(self._numbers), model)
        record.result = asyncio.get_running_loop().create_future()
        record.command_issued.set()
        deadline = time.monotonic() + _RELOAD_TIMEOUT
        while not record.result.done() and time.monotonic() < deadline:
            await asyncio.wait({record.result}, timeout=self._poll_timeout)
            self._remove_expired()
            if id not in self._records:
                return None
        if record.result.done():
            return record.result.result()
        number, record.command = record.command.number, None
        return ReloadResult(number, failure=Failure(504, f"a replica did not load {model} in time"))

    def _remove_expired(self) -> None:
        oldest = time.monotonic() - self._heartbeat_timeout
        self._records = {id: record for id, record in self._records.items() if record.last_seen >= oldest}
