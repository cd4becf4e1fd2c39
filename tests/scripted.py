"""Live sessions that send scripted events after given amounts of audio, to test the layers above the session."""

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
from whisper_server.inference.models.catalogue import SERVED, canonical_name
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, SpeechStarted, SpeechStopped, Update
from whisper_server.live.session import SessionOptions
from whisper_server.live.session_limits import SessionLimits

RATE = 16_000


def word(text: str, start: float, end: float | None = None) -> Word:
    return Word(text, start, start + 0.2 if end is None else end, 0.9)


WORDS = (word(" The", 0.2), word(" kettle", 0.5), word(" is", 0.8), word(" on.", 1.1, 1.4))
# The events of an utterance of 1.4 s, each with the second of audio after which it is sent.
UTTERANCE: tuple[tuple[float, Event], ...] = (
    (0.3, SpeechStarted(0.1)),
    (0.9, Update(0, WORDS[:1], WORDS[1:2], 0.9)),
    (1.3, Update(0, WORDS[1:3], (word(" of", 1.1),), 1.3)),
    (1.9, SpeechStopped(1.4)),
    (1.9, Final(0, WORDS, 0.1, 1.4, 1.9, "en", False)),
)


@dataclass
class Script:
    """`fails` ends the session at its first audio; a `stuck` session takes none.

    A flush or the end sends a Final with the words `final`.
    """

    events: Sequence[tuple[float, Event]] = UTTERANCE
    fails: WhisperServerError | None = None
    stuck: bool = False
    final: Sequence[Word] = ()


class ScriptedSession:
    def __init__(self, script: Script, options: SessionOptions) -> None:
        self.script = script
        self.options = options
        self.audio: list[NDArray[np.float32]] = []
        self.commands: list[str] = []
        self.left = anyio.Event()
        self._scheduled = list(script.events)
        self._utterance_start = 0.0

    @property
    def seconds(self) -> float:
        return sum(map(len, self.audio)) / RATE

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
        self.audio.append(samples)
        while self._scheduled and self._scheduled[0][0] <= self.seconds:
            self._emit([self._scheduled.pop(0)[1]])
        if self.script.fails is not None:
            self._send.send_nowait(self.script.fails)

    async def flush(self) -> None:
        self.commands.append("flush")
        self._emit([self._final(flushed=True)])

    async def end(self) -> None:
        self.commands.append("end")
        final = self._final(flushed=False)
        self._emit([*([final] if final.words else []), Ended(self.seconds)])

    async def clear(self) -> None:
        self.commands.append("clear")

    def _final(self, *, flushed: bool) -> Final:
        words = tuple(self.script.final)
        final = Final(9, words, self._utterance_start, self.seconds, self.seconds, "en", flushed)
        self._utterance_start = self.seconds
        return final

    def _emit(self, events: Iterable[Event]) -> None:
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
class ScriptedSessionFactory:
    """Opens a session for each script in turn, and goes on with the last one."""

    scripts: Sequence[Script] = (Script(),)
    sessions: list[ScriptedSession] = field(default_factory=list)

    def open(self, options: SessionOptions) -> ScriptedSession:
        if canonical_name(options.model) not in (SERVED, "tiny.en"):
            raise ModelNotFound(f"model {options.model!r} is not served here")
        script = self.scripts[min(len(self.sessions), len(self.scripts) - 1)]
        self.sessions.append(ScriptedSession(script, options))
        return self.sessions[-1]


@dataclass(frozen=True)
class FakeModels:
    """A ModelAdmin whose only model has every name."""

    name: str = "tiny.en"

    def id_of(self, name: str) -> str:
        return self.name


def application(session_factory: ScriptedSessionFactory, sessions: SessionLimits | None = None) -> Starlette:
    """The server's routes over scripted sessions."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {
            "models": FakeModels(),
            "session_factory": session_factory,
            "sessions": sessions or SessionLimits(max_sessions=4, idle_timeout=20, max_seconds=60),
            "settings": Settings(),
            "client_secrets": ClientSecrets(b"a secret of the tests"),
        }

    return Starlette(routes=ROUTES, exception_handlers=HANDLERS, lifespan=lifespan)


@contextmanager
def scripted(
    *scripts: Script, sessions: SessionLimits | None = None
) -> Iterator[tuple[TestClient, ScriptedSessionFactory]]:
    session_factory = ScriptedSessionFactory(scripts or (Script(),))
    with TestClient(application(session_factory, sessions)) as client:
        yield client, session_factory
