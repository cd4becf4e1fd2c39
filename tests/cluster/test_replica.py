"""Replicas on one board in this process, with real weights: what Ray does is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from whisper_server.cluster.coordinator import Coordinator, Outcome, ReloadCommand, State
from whisper_server.cluster.replica import Replica
from whisper_server.core.settings import SettingsError

ENVIRON = {
    f"WHISPER_SERVER_{name}": value
    for name, value in {
        "MODEL": "tiny.en",
        "DEVICE": "cpu",
        "OFFLINE": "true",
        "AUTH": "false",
        "MEASURE": "false",
        "WORKERS": "1",
        "JOBS": "false",
    }.items()
}


class Unreachable(Coordinator):
    async def wanted(self) -> str:
        raise OSError("gone")

    async def replicas(self) -> dict[str, State]:
        raise OSError("gone")

    async def report(self, id: str, state: State, outcome: Outcome | None = None) -> ReloadCommand | None:
        raise OSError("gone")

    async def leave(self, id: str) -> None:
        raise OSError("gone")

    async def reload(self, model: str) -> Outcome:
        raise OSError("gone")


async def nobody_stops() -> bool:
    return False


def replica(coordinator: Coordinator, id: str = "a", **changed: Any) -> Replica:
    usual = {"environ": ENVIRON, "given": {}, "secret": b"s" * 32, "is_stopping": nobody_stops}
    return Replica(id, coordinator, **{**usual, **changed})


def asking(asked: Replica) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(asked), base_url="http://localhost", timeout=60)


def running(*replicas: Replica, act: Callable[[], Awaitable[None]], config: dict[str, Any] | None = None) -> None:
    async def run() -> None:
        started: list[Replica] = []
        try:
            for each in replicas:
                await each.configure(config or {})
                started.append(each)
            await act()
        finally:
            for each in started:
                await each.stop()

    asyncio.run(run())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async def look() -> None:
        while not await true():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 30)


def test_any_replica_answers_for_all(audio: Path) -> None:
    coordinator = Coordinator(patience=0.05)
    one, other = replica(coordinator, "a"), replica(coordinator, "b")

    async def act() -> None:
        async def both() -> bool:
            return len(await coordinator.replicas()) == 2

        await until(both)
        async with asking(one) as client:
            ready = (await client.get("/ready")).json()
            assert ready == {
                "status": "ready",
                "replicas": [{"replica": id, "model": "tiny.en", "status": "ready"} for id in "ab"],
            }
            (model,) = (await client.get("/v1/models")).json()["data"]
            assert (model["id"], model["replicas"]) == ("tiny.en", 2)
            assert (await client.get("/v1/models/tiny.en")).json()["id"] == "tiny.en"
            assert (await client.get("/v1/models/nosuch")).status_code == 404
            samples = (await client.get("/metrics")).text.splitlines()
            assert {f'whisper_ready{{replica="{id}"}} 1.0' for id in "ab"} <= set(samples)
            files = {"file": ("a.flac", (audio / "short.flac").read_bytes())}
            assert "stove" in (await client.post("/recognise", files=files)).json()["transcription"]["text"]

    running(one, other, act=act)


def test_reload_changes_all_and_a_wrong_name_none() -> None:
    coordinator = Coordinator(patience=0.05)
    one, other = replica(coordinator, "a"), replica(coordinator, "b")

    async def act() -> None:
        async with asking(one) as client:
            refused = await client.post("/reload", json={"model_name": "nosuch"})
            assert refused.status_code == 404
            assert "nosuch" in refused.json()["error"]
            assert {state.model for state in (await coordinator.replicas()).values()} == {"tiny.en"}
            answer = await client.post("/reload", json={"model_name": "base"})
            assert answer.json() == {"message": "Model base loaded"}
            assert [r["model"] for r in (await client.get("/ready")).json()["replicas"]] == ["base", "base"]
        late = replica(coordinator, "c")
        await late.configure({})
        try:
            async with asking(late) as client:
                assert (await client.get("/v1/models/base")).json()["id"] == "base"
        finally:
            await late.stop()

    running(one, other, act=act)


def test_a_replica_serves_without_its_board(caplog: pytest.LogCaptureFixture) -> None:
    alone = replica(Unreachable())

    async def act() -> None:
        async with asking(alone) as client:
            assert [r["replica"] for r in (await client.get("/ready")).json()["replicas"]] == ["a"]
            refused = await client.post("/reload", json={"model_name": "base"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")

    running(alone, act=act)


def test_settings_come_from_the_configuration_over_the_arguments_over_the_environment() -> None:
    coordinator = Coordinator(patience=0.05)
    configured = replica(coordinator, given={"max_audio_seconds": 2, "detail": False})

    async def act() -> None:
        async with asking(configured) as client:
            await client.get("/health")
        with pytest.raises(SettingsError, match="only the model"):
            await configured.configure({"model": "tiny.en", "max_requests": 3})

    running(configured, act=act, config={"model": "tiny.en"})


def test_a_new_model_in_the_configuration_is_loaded() -> None:
    configured = replica(Coordinator(patience=0.05))

    async def act() -> None:
        await configured.configure({"model": "base"})
        async with asking(configured) as client:
            assert (await client.get("/v1/models/base")).status_code == 200

    running(configured, act=act)


@pytest.mark.parametrize("given", [{"model": "nosuch"}, {"nosuch": 1}, {"auth": True}])
def test_what_cannot_be_does_not_start(given: dict[str, Any]) -> None:
    async def run() -> None:
        with pytest.raises(Exception, match="nosuch|NOSUCH|no key"):
            await replica(Coordinator(patience=0.05), given=given).configure({})

    asyncio.run(run())


def test_a_replica_that_stops_lets_its_sessions_go() -> None:
    """It is not asked for its health any more, and one of the deployment is stopping."""
    stopping = False

    async def is_stopping() -> bool:
        return stopping

    ending = replica(Coordinator(patience=0.05), is_stopping=is_stopping, silence=0.05)

    async def act() -> None:
        nonlocal stopping
        ending.check_health()
        sent: list[Any] = []
        told: asyncio.Queue[Any] = asyncio.Queue()
        told.put_nowait({"type": "websocket.connect"})
        accepted = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "websocket.accept":
                accepted.set()

        scope = {"type": "websocket", "path": "/v1/stream", "query_string": b"", "headers": [(b"host", b"localhost")]}
        session = asyncio.create_task(ending({**scope, "subprotocols": []}, told.get, send))
        await asyncio.wait_for(accepted.wait(), 30)
        stopping = True
        await asyncio.wait_for(session, 30)
        assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1012)

    running(ending, act=act)
