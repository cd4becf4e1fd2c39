"""A live session that tells what the test says, when so much audio was heard; for what is above the core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.testclient import TestClient

from whisper_server.api.errors import HANDLERS
from whisper_server.app import ROUTES
from whisper_server.core.client_secrets import ClientSecrets
from whisper_server.core.errors import ModelNotFound, WhisperServerError
from whisper_server.core.settings import Settings
from whisper_server.live.events import Ended, Event, Final, SpeechStarted, SpeechStopped, Update, Word
from whisper_server.live.session import SessionOptions
from whisper_server.live.session_limits import SessionLimits

RATE = 16_000


def word(text: str, start: float, end: float | None = None) -> Word:
    return Word(text, start, start + 0.2 if end is None else end, 0.9)


WORDS = (word(" The", 0.2), word(" kettle", 0.5), word(" is", 0.8), word(" on.", 1.1, 1.4))
# An utterance of 1.4 s, as one is told.
UTTERANCE: tuple[tuple[float, Event], ...] = (
    (0.3, SpeechStarted(0.1)),
    (0.9, Update(0, WORDS[:1], WORDS[1:2], 0.9)),
    (1.3, Update(0, WORDS[1:3], (word(" of", 1.1),), 1.3)),
    (1.9, SpeechStopped(1.4)),
    (1.9, Final(0, WORDS, 0.1, 1.4, 1.9, "en", False)),
)


@dataclass
class Script:
    """Events by the second of audio after which they come; `fails` ends a session, `stuck` lets it take nothing."""

    events: Sequence[tuple[float, Event]] = UTTERANCE
    fails: WhisperServerError | None = None
    stuck: bool = False
    rest: Sequence[Word] = ()


class ScriptedSession:
    def __init__(self, script: Script, options: SessionOptions) -> None:
        self.script = script
        self.options = options
        self.heard: list[NDArray[np.float32]] = []
        self.told: list[str] = []
        self.left = anyio.Event()
        self._waiting = list(script.events)
        self._since = 0.0

    @property
    def seconds(self) -> float:
        return sum(map(len, self.heard)) / RATE

    async def __aenter__(self) -> ScriptedSession:
        self._send, self._receive = anyio.create_memory_object_stream[Event | WhisperServerError](1000)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left.set()
        self._send.close()
        self._receive.close()

    async def feed(self, samples: NDArray[np.float32]) -> None:
        if self.script.stuck:
            await anyio.sleep_forever()
        self.heard.append(samples)
        while self._waiting and self._waiting[0][0] <= self.seconds:
            self._tell([self._waiting.pop(0)[1]])
        if self.script.fails is not None:
            self._send.send_nowait(self.script.fails)

    async def flush(self) -> None:
        self.told.append("flush")
        self._tell([self._final(flushed=True)])

    async def end(self) -> None:
        self.told.append("end")
        final = self._final(flushed=False)
        self._tell([*([final] if final.words else []), Ended(self.seconds)])

    async def clear(self) -> None:
        self.told.append("clear")

    def _final(self, *, flushed: bool) -> Final:
        final = Final(9, tuple(self.script.rest), self._since, self.seconds, self.seconds, "en", flushed)
        self._since = self.seconds
        return final

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._send.send_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self._receive:
            if isinstance(event, WhisperServerError):
                raise event
            yield event
            if isinstance(event, Ended):
                return


@dataclass
class ScriptedListener:
    """Opens such sessions, one after another as the scripts say; knows the models that it is told."""

    scripts: Sequence[Script] = (Script(),)
    models: Sequence[str] = ("", "whisper-1", "gpt-4o-transcribe", "tiny.en")
    sessions: list[ScriptedSession] = field(default_factory=list)

    def open(self, options: SessionOptions) -> ScriptedSession:
        if options.model not in self.models:
            raise ModelNotFound(f"model {options.model!r} is not loaded here")
        script = self.scripts[min(len(self.sessions), len(self.scripts) - 1)]
        self.sessions.append(ScriptedSession(script, options))
        return self.sessions[-1]


@dataclass(frozen=True)
class FakeModels:
    """A ModelAdmin whose only model has every name."""

    name: str = "tiny.en"

    def get(self, name: str) -> FakeModels:
        return self


def application(session_factory: ScriptedListener, sessions: SessionLimits | None = None) -> Starlette:
    """The server's routes over scripted sessions."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {
            "models": FakeModels(),
            "session_factory": session_factory,
            "sessions": sessions or SessionLimits(most=4, idle=20, longest=60),
            "settings": Settings(),
            "client_secrets": ClientSecrets(b"a secret of the tests"),
        }

    return Starlette(routes=ROUTES, exception_handlers=HANDLERS, lifespan=lifespan)


@contextmanager
def scripted(*scripts: Script, sessions: SessionLimits | None = None) -> Iterator[tuple[TestClient, ScriptedListener]]:
    session_factory = ScriptedListener(scripts or (Script(),))
    with TestClient(application(session_factory, sessions)) as client:
        yield client, session_factory
