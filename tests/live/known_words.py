"""Speech whose words are known, and fakes that detect and decode it: sample n of speech has the value 1 + n / 16000."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import anyio
import numpy as np

from whisper_server.core.errors import WhisperServerError
from whisper_server.inference.audio.vad import WINDOW
from whisper_server.inference.audio.waveform import Samples
from whisper_server.inference.transcription.segments import Word
from whisper_server.inference.transcription.streaming import AlignedWord, DecodeWindow, Hypothesis
from whisper_server.live.events import Event, Final, Update
from whisper_server.live.session import Session

RATE = 16_000


def speech(*spans: tuple[float, float], seconds: float) -> Samples:
    """Silence with speech in these spans of seconds."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    for start, end in spans:
        positions = np.arange(round(start * RATE), round(end * RATE))
        samples[positions] = 1 + positions / RATE
    return samples


class KnownVoiceActivity:
    """Every sample that is not zero is speech."""

    def __init__(self) -> None:
        self._incomplete = np.empty(0, np.float32)

    def __call__(self, samples: Samples) -> list[float]:
        samples = np.concatenate([self._incomplete, samples])
        count = len(samples) // WINDOW
        self._incomplete = samples[count * WINDOW :]
        return [float(window.any()) for window in samples[: count * WINDOW].reshape(count, WINDOW)]


def start_of(window: DecodeWindow) -> float | None:
    """The second at which the window starts; None if it is silent."""
    positions = np.flatnonzero(window.samples)
    return float(window.samples[positions[0]]) - 1 - positions[0] / RATE if len(positions) else None


class KnownWordsDecoder:
    """Recognises each of the words (" text", end) once it is complete; a share `wrong` of the hypotheses end wrong."""

    def __init__(
        self, words: Sequence[tuple[str, float]], *, wrong: float = 0.0, seed: int = 0, probability: float = 0.7
    ) -> None:
        self.words = words
        self.windows: list[DecodeWindow] = []
        self.error: WhisperServerError | None = None
        self.language = "en"
        self.language_probability = 1.0
        self.blocked_until: anyio.Event | None = None
        self.started = anyio.Event()
        self.cancelled = 0
        self._wrong = wrong
        self._random = Random(seed)
        self._probability = probability

    async def decode_window(self, window: DecodeWindow, /, *, model: str) -> Hypothesis:
        self.windows.append(window)
        self.started.set()
        try:
            await anyio.lowlevel.checkpoint()
            if self.blocked_until is not None:
                await self.blocked_until.wait()
        except BaseException:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Hypothesis(
            tuple(self._words(window)), window.language or self.language, self.language_probability, 0.0, -0.2
        )

    def _words(self, window: DecodeWindow) -> list[AlignedWord]:
        start = start_of(window)
        if start is None:
            return []
        end = start + len(window.samples) / RATE
        words = [(text, at) for text, at in self.words if start < at - 0.01 and at <= end + 0.001]
        words = words[len(window.prefix) :]
        if self._random.random() < self._wrong:
            kept = self._random.randrange(len(words) + 1)
            words = [*words[:kept], *((f" wrong{self._random.random():.3f}", end) for _ in range(3))]
        return [AlignedWord(text, at - start - 0.3, at - start, self._probability, (hash(text),)) for text, at in words]


async def run_session(
    session: Session, samples: Samples, *, frame: float = 0.1, flush_at: Sequence[float] = ()
) -> list[Event]:
    """Feed the session in step with its decoder and return all events."""
    events: list[Event] = []
    async with session, anyio.create_task_group() as group:
        group.start_soon(collect, session, events)
        async for second in feed_in_step(session, samples, frame):
            if any(second - frame < at <= second for at in flush_at):
                await session.flush()
        await session.end()
    return events


async def collect(session: Session, events: list[Event]) -> None:
    async for event in session:
        events.append(event)


async def feed_in_step(session: Session, samples: Samples, frame: float = 0.1) -> AsyncIterator[float]:
    """Yield the second that was reached, after each frame, once the decoder is idle."""
    length = round(frame * RATE)
    for at in range(0, len(samples), length):
        await session.feed(samples[at : at + length])
        await settle()
        yield (at + length) / RATE


async def settle() -> None:
    """Let the other tasks run until they wait; the fakes use no threads and no timers."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


def confirmed(events: Sequence[Event]) -> list[Word]:
    """The words of a client that keeps every confirmed word of the updates and adds the other words of the finals."""
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
