"""Speech whose words are known, and ears that hear them: sample n of speech has the value 1 + n / 16000."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import anyio
import numpy as np

from whisper_server.core.errors import WhisperServerError
from whisper_server.inference.audio.features import Samples
from whisper_server.inference.audio.vad import WINDOW
from whisper_server.inference.transcription.streaming import AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.events import Event, Final, Update, Word
from whisper_server.live.session import Session

RATE = 16_000


def speech(*spans: tuple[float, float], seconds: float) -> Samples:
    """Silence with speech in it."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    for start, end in spans:
        places = np.arange(round(start * RATE), round(end * RATE))
        samples[places] = 1 + places / RATE
    return samples


class KnownVoice:
    def __init__(self) -> None:
        self._rest = np.empty(0, np.float32)

    def __call__(self, samples: Samples) -> list[float]:
        waiting = np.concatenate([self._rest, samples])
        count = len(waiting) // WINDOW
        self._rest = waiting[count * WINDOW :]
        return [float(window.any()) for window in waiting[: count * WINDOW].reshape(count, WINDOW)]


def start_of(passage: DecodeWindow) -> float | None:
    """The second at which the passage starts; None if it is silent."""
    places = np.flatnonzero(passage.samples)
    return float(passage.samples[places[0]]) - 1 - places[0] / RATE if len(places) else None


class KnownEars:
    """Hears the words (" text", end), each once it is complete. `wrong` of the hearings invent what follows."""

    def __init__(
        self, words: Sequence[tuple[str, float]], *, wrong: float = 0.0, seed: int = 0, probability: float = 0.7
    ) -> None:
        self.words = words
        self.passages: list[DecodeWindow] = []
        self.fails: WhisperServerError | None = None
        self.language = "en"
        self.language_probability = 1.0
        self.waits: anyio.Event | None = None
        self.began = anyio.Event()
        self.left = 0
        self._wrong = wrong
        self._random = Random(seed)
        self._probability = probability

    async def decode_window(self, passage: DecodeWindow, *, model: str) -> Hypothesis:
        self.passages.append(passage)
        self.began.set()
        try:
            await anyio.lowlevel.checkpoint()
            if self.waits is not None:
                await self.waits.wait()
        except BaseException:
            self.left += 1
            raise
        if self.fails is not None:
            raise self.fails
        return Hypothesis(
            tuple(self._heard(passage)), passage.language or self.language, self.language_probability, 0.0, -0.2
        )

    def _heard(self, passage: DecodeWindow) -> list[AlignedWord]:
        start = start_of(passage)
        if start is None:
            return []
        end = start + len(passage.samples) / RATE
        words = [(text, at) for text, at in self.words if start < at - 0.01 and at <= end + 0.001]
        words = words[len(passage.prefix) :]
        if self._random.random() < self._wrong:
            keep = self._random.randrange(len(words) + 1)
            words = [*words[:keep], *((f" wrong{self._random.random():.3f}", end) for _ in range(3))]
        return [AlignedWord(text, at - start - 0.3, at - start, self._probability, (hash(text),)) for text, at in words]


async def listen(
    session: Session, samples: Samples, *, frame: float = 0.1, flush_at: Sequence[float] = ()
) -> list[Event]:
    """All events of a session that is fed at the pace of its ears."""
    events: list[Event] = []

    async def read() -> None:
        async for event in session:
            events.append(event)

    async with session, anyio.create_task_group() as group:
        group.start_soon(read)
        async for second in fed(session, samples, frame):
            if any(second - frame < at <= second for at in flush_at):
                await session.flush()
        await session.end()
    return events


async def fed(session: Session, samples: Samples, frame: float) -> AsyncIterator[float]:
    length = round(frame * RATE)
    for at in range(0, len(samples), length):
        await session.feed(samples[at : at + length])
        await settled()
        yield (at + length) / RATE


async def settled() -> None:
    """The other tasks do what they can, which takes no thread and no time of theirs."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


def confirmed(events: Sequence[Event]) -> list[Word]:
    """What a client has that keeps every word that updates confirm, and the rest of the finals."""
    words: list[Word] = []
    of_utterance = 0
    for event in events:
        if isinstance(event, Update):
            words += event.confirmed
            of_utterance += len(event.confirmed)
        elif isinstance(event, Final):
            words += event.words[of_utterance:]
            of_utterance = 0
    return words


def finals(events: Sequence[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def text_of(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words)
