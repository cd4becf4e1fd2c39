"""What test clients cannot do: stop reading, disconnect during a word, and stop the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import numpy as np
import pytest
from recorder import pcm16
from scripted import Script, ScriptedSession, word
from starlette.requests import ClientDisconnect

from whisper_server.api.streaming.native import NativeAdapter, parse_stream
from whisper_server.api.streaming.openai_config import RealtimeConfig
from whisper_server.api.streaming.openai_protocol import RealtimeAdapter
from whisper_server.api.streaming.session_runner import SessionRunner
from whisper_server.core.errors import ServerStopping, WhisperServerError
from whisper_server.live.session import SessionOptions
from whisper_server.live.session_limits import SessionLimits

SECOND = pcm16(np.zeros(16_000, np.float32))


class FakeTransport:
    """Sends these frames and then nothing; calls `after` when all have been received."""

    def __init__(
        self, frames: Sequence[bytes | str], after: Callable[[FakeTransport], None] = lambda transport: None
    ) -> None:
        self.disconnected = anyio.Event()
        self.frames = list(frames)
        self.after = after
        self.sent: list[Mapping[str, Any]] = []
        self.reads = True

    async def receive(self) -> bytes | str | None:
        if self.frames:
            return self.frames.pop(0)
        self.after(self)
        await anyio.sleep_forever()
        return None

    async def send(self, message: Mapping[str, Any]) -> None:
        if not self.reads:
            await anyio.sleep_forever()
        self.sent.append(message)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]


def native() -> NativeAdapter:
    return NativeAdapter(parse_stream({}), model="tiny.en")


def session_limits() -> SessionLimits:
    return SessionLimits(max_sessions=1, idle_timeout=20, max_seconds=20)


def test_a_client_that_does_not_read_is_disconnected() -> None:
    async def run() -> ScriptedSession:
        session, transport = ScriptedSession(Script(), SessionOptions()), FakeTransport([SECOND])
        transport.reads = False
        with pytest.raises(ClientDisconnect):
            await SessionRunner(transport, native(), session, session_limits(), send_timeout=0.01).run()  # type: ignore[arg-type]
        return session

    anyio.run(run)


def test_a_disconnect_cancels_a_session_that_is_waiting() -> None:
    async def run() -> ScriptedSession:
        session = ScriptedSession(Script(stuck=True), SessionOptions())
        transport = FakeTransport([SECOND])
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:

                async def disconnect() -> None:
                    await anyio.wait_all_tasks_blocked()
                    transport.disconnected.set()

                group.start_soon(disconnect)
                with pytest.raises(ClientDisconnect):
                    await SessionRunner(transport, native(), session, session_limits()).run()  # type: ignore[arg-type]
        return session

    assert anyio.run(run).left.is_set()


def stopped(adapter: Any, frames: Sequence[bytes | str], script: Script) -> tuple[WhisperServerError | None, list[str]]:
    async def run() -> tuple[WhisperServerError | None, list[str]]:
        limits = session_limits()
        transport = FakeTransport(frames, lambda transport: limits.stopping.set())
        session = ScriptedSession(script, SessionOptions())
        with anyio.fail_after(20):
            return await SessionRunner(transport, adapter, session, limits).run(), transport.types  # type: ignore[arg-type]

    return anyio.run(run)


def test_stopping_the_server_ends_the_session_and_sends_its_last_words() -> None:
    refusal, types = stopped(native(), [SECOND], Script((), final=(word(" Yes.", 0.1),)))
    assert isinstance(refusal, ServerStopping)
    assert types == ["ready", "final"]


def test_stopping_the_server_during_a_session_switch_ends_the_session() -> None:
    """The previous session never ends, so the next one cannot start."""

    class Endless(ScriptedSession):
        async def end(self) -> None:
            self.commands.append("end")
            if len(self.commands) > 1:
                await super().end()

    async def run() -> tuple[WhisperServerError | None, list[str]]:
        limits = session_limits()
        update = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}}
        transport = FakeTransport([json.dumps(update)])
        session = Endless(Script(()), SessionOptions())
        opened: list[ScriptedSession] = []

        def open(options: SessionOptions) -> Any:
            opened.append(ScriptedSession(Script(()), options))
            return opened[-1]

        adapter = RealtimeAdapter(RealtimeConfig(), open, model="tiny.en", expires_at=0)
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await anyio.wait_all_tasks_blocked()
                limits.stopping.set()

            group.start_soon(stop)
            with anyio.fail_after(20):
                return await SessionRunner(transport, adapter, session, limits).run(), transport.types  # type: ignore[arg-type]
        raise AssertionError

    refusal, types = anyio.run(run)
    assert isinstance(refusal, ServerStopping)
    assert types == ["session.created"]
