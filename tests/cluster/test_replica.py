"""Replicas with real weights and one coordinator in this process, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from whisper_server.cluster.coordinator import Coordinator, ReloadCommand, ReloadResult, ReplicaState
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


class UnreachableCoordinator(Coordinator):
    async def target_model(self) -> str:
        raise OSError("gone")

    async def replicas(self) -> dict[str, ReplicaState]:
        raise OSError("gone")

    async def report(self, id: str, state: ReplicaState, result: ReloadResult | None = None) -> ReloadCommand | None:
        raise OSError("gone")

    async def leave(self, id: str) -> None:
        raise OSError("gone")

    async def reload(self, model: str) -> ReloadResult:
        raise OSError("gone")


async def never() -> bool:
    return False


def replica(coordinator: Coordinator, id: str = "a", **changed: Any) -> Replica:
    defaults = {"environ": ENVIRON, "overrides": {}, "secret": b"s" * 32, "is_stopping": never}
    return Replica(id, coordinator, **{**defaults, **changed})


def client_of(replica: Replica) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(replica), base_url="http://localhost", timeout=60)


def with_running(*replicas: Replica, act: Callable[[], Awaitable[None]], config: dict[str, Any] | None = None) -> None:
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


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async def poll() -> None:
        while not await condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)


def test_any_replica_responds_for_all(audio: Path) -> None:
    coordinator = Coordinator(poll_timeout=0.05)
    one, other = replica(coordinator, "a"), replica(coordinator, "b")

    async def act() -> None:
        async def both_have_reported() -> bool:
            return len(await coordinator.replicas()) == 2

        await until(both_have_reported)
        async with client_of(one) as client:
            ready = (await client.get("/ready")).json()
            assert ready == {
                "status": "ready",
                "replicas": [{"replica": id, "model": "tiny.en", "status": "ready"} for id in "ab"],
            }
            model, alias = (await client.get("/v1/models")).json()["data"]
            assert (model["id"], model["replicas"]) == ("tiny.en", 2)
            assert (alias["id"], alias["alias_of"], alias["replicas"]) == ("whisper-1", "tiny.en", 2)
            assert (await client.get("/v1/models/tiny.en")).json()["id"] == "tiny.en"
            assert (await client.get("/v1/models/nosuch")).status_code == 404
            samples = (await client.get("/metrics")).text.splitlines()
            assert {f'whisper_ready{{replica="{id}"}} 1.0' for id in "ab"} <= set(samples)
            files = {"file": ("a.flac", (audio / "short.flac").read_bytes())}
            assert "stove" in (await client.post("/recognise", files=files)).json()["transcription"]["text"]

    with_running(one, other, act=act)


@pytest.fixture
def other_model(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model "mine" is on disk."""
    (tmp_path / "mine").symlink_to(weights)
    monkeypatch.setitem(ENVIRON, "WHISPER_SERVER_MODELS_DIR", str(tmp_path))


@pytest.mark.usefixtures("other_model")
def test_a_reload_changes_all_replicas_and_an_unknown_name_none() -> None:
    coordinator = Coordinator(poll_timeout=0.05)
    one, other = replica(coordinator, "a"), replica(coordinator, "b")

    async def act() -> None:
        async with client_of(one) as client:
            error_response = await client.post("/reload", json={"model_name": "nosuch"})
            assert error_response.status_code == 404
            assert "nosuch" in error_response.json()["error"]
            assert {state.model for state in (await coordinator.replicas()).values()} == {"tiny.en"}
            response = await client.post("/reload", json={"model_name": "mine"})
            assert response.json() == {"message": "Model mine loaded"}
            assert [r["model"] for r in (await client.get("/ready")).json()["replicas"]] == ["mine", "mine"]
        late = replica(coordinator, "c")
        await late.configure({})
        try:
            async with client_of(late) as client:
                assert (await client.get("/v1/models/mine")).json()["id"] == "mine"
        finally:
            await late.stop()

    with_running(one, other, act=act)


def test_a_replica_serves_without_its_coordinator() -> None:
    alone = replica(UnreachableCoordinator())

    async def act() -> None:
        async with client_of(alone) as client:
            assert [r["replica"] for r in (await client.get("/ready")).json()["replicas"]] == ["a"]
            error_response = await client.post("/reload", json={"model_name": "base"})
            assert (error_response.status_code, error_response.headers["retry-after"]) == (503, "5")

    with_running(alone, act=act)


def test_user_config_overrides_arguments_and_arguments_override_the_environment() -> None:
    coordinator = Coordinator(poll_timeout=0.05)
    configured = replica(coordinator, overrides={"max_audio_seconds": 2, "detail": False})

    async def act() -> None:
        async with client_of(configured) as client:
            await client.get("/health")
        with pytest.raises(SettingsError, match="only the model"):
            await configured.configure({"model": "tiny.en", "max_requests": 3})

    with_running(configured, act=act, config={"model": "tiny.en"})


@pytest.mark.usefixtures("other_model")
def test_a_new_model_in_user_config_is_loaded() -> None:
    configured = replica(Coordinator(poll_timeout=0.05))

    async def act() -> None:
        await configured.configure({"model": "mine"})
        async with client_of(configured) as client:
            assert (await client.get("/v1/models/mine")).status_code == 200

    with_running(configured, act=act)


@pytest.mark.parametrize("overrides", [{"model": "nosuch"}, {"nosuch": 1}, {"auth": True}])
def test_a_replica_with_wrong_settings_does_not_start(overrides: dict[str, Any]) -> None:
    async def run() -> None:
        with pytest.raises(Exception, match="nosuch|NOSUCH|no key"):
            await replica(Coordinator(poll_timeout=0.05), overrides=overrides).configure({})

    asyncio.run(run())


def test_a_stopping_replica_closes_its_live_sessions() -> None:
    """Health checks have ceased, and a replica of the deployment is stopping."""
    stopping = False

    async def is_stopping() -> bool:
        return stopping

    ending = replica(Coordinator(poll_timeout=0.05), is_stopping=is_stopping, health_check_timeout=0.05)

    async def act() -> None:
        nonlocal stopping
        ending.check_health()
        sent: list[Any] = []
        received: asyncio.Queue[Any] = asyncio.Queue()
        received.put_nowait({"type": "websocket.connect"})
        accepted = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "websocket.accept":
                accepted.set()

        scope = {"type": "websocket", "path": "/v1/stream", "query_string": b"", "headers": [(b"host", b"localhost")]}
        session = asyncio.create_task(ending({**scope, "subprotocols": []}, received.get, send))
        await asyncio.wait_for(accepted.wait(), 30)
        stopping = True
        await asyncio.wait_for(session, 30)
        assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1012)

    with_running(ending, act=act)
