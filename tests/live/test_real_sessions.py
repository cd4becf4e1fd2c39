"""Real weights, real sound: what live sessions hear, and that they let go."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from dictation import confirmed, finals, text_of
from faster_whisper import decode_audio

from benchmarks.speech.word_error_rate import distance, normalise
from whisper_server.core.errors import BadOption, ModelNotFound
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import Engine
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.features import Samples
from whisper_server.inference.models.manager import ModelManager
from whisper_server.live.events import Ended, Event, Final
from whisper_server.live.session import Session, SessionFactory, SessionOptions

RATE = 16_000
FRAME = 1_600


@pytest.fixture
def engine(models: ModelManager) -> Engine:
    return Engine(models, AudioDecoder(max_seconds=600), Admission(max_requests=8, max_audio_seconds=3600))


@pytest.fixture
def session_factory(engine: Engine) -> SessionFactory:
    return SessionFactory(engine)


@pytest.fixture(scope="session")
def sentences(audio: Path) -> Samples:
    return np.pad(decode_audio(str(audio / "sentences.flac")), (RATE // 2, RATE))


def errors(said: str, heard: str) -> float:
    """The word error rate, in percent."""
    return 100 * distance(normalise(said), normalise(heard)) / len(normalise(said))


async def pushed(session_factory: SessionFactory, samples: Samples, **options: object) -> list[Event]:
    """As fast as the session takes it."""
    events: list[Event] = []

    async def read(session: Session) -> None:
        async for event in session:
            events.append(event)

    session = session_factory.open(SessionOptions(**options))  # type: ignore[arg-type]
    async with session, anyio.create_task_group() as group:
        group.start_soon(read, session)
        for at in range(0, len(samples), FRAME):
            await session.feed(samples[at : at + FRAME])
        await session.end()
    return events


def run(session_factory: SessionFactory, samples: Samples, **options: object) -> list[Event]:
    async def work() -> list[Event]:
        return await pushed(session_factory, samples, **options)

    return anyio.run(work)


def heard_text(events: Sequence[Event]) -> str:
    return "".join(text_of(final.words) for final in finals(events))


def test_speech_becomes_text(session_factory: SessionFactory, sentences: Samples, texts: dict[str, str]) -> None:
    events = run(session_factory, sentences)
    assert errors(texts["sentences"], heard_text(events)) <= 6
    assert text_of(confirmed(events)) == heard_text(events)
    words = [word for final in finals(events) for word in final.words]
    assert all(before.end <= after.end + 0.05 for before, after in zip(words, words[1:], strict=False))
    assert all(0 <= word.start <= word.end <= len(sentences) / RATE for word in words)
    assert {final.language for final in finals(events)} == {"en"}


def test_a_paced_stream_gives_the_text_of_a_pushed_one(
    session_factory: SessionFactory, engine: Engine, audio: Path
) -> None:
    samples = decode_audio(str(audio / "long.flac"))[: 14 * RATE]
    text = heard_text(anyio.run(lambda: in_step(Counting(engine), samples)))
    assert len(normalise(text)) > 25
    assert heard_text(run(session_factory, samples)) == text


@pytest.mark.parametrize("kind", ["silence", "white noise", "hum", "clicks", "music"])
def test_what_is_no_speech_is_not_even_decoded(engine: Engine, kind: str) -> None:
    ears = Counting(engine)
    assert anyio.run(lambda: in_step(ears, NOISES[kind](60 * RATE))) == [Ended(60.0)]
    assert ears.count == 0


def noise(count: int) -> Samples:
    return (0.05 * np.random.default_rng(1).standard_normal(count)).astype(np.float32)


def hum(count: int) -> Samples:
    return (0.2 * np.sin(2 * np.pi * 100 * np.arange(count) / RATE)).astype(np.float32)


def clicks(count: int) -> Samples:
    samples = np.zeros(count, np.float32)
    samples[:: RATE // 2] = 1
    return samples


def music(count: int) -> Samples:
    """Chords and drums."""
    random = np.random.default_rng(1)
    samples = np.zeros(count, np.float32)
    for at in range(0, count - RATE, RATE // 2):
        seconds = np.arange(RATE) / RATE
        root = 110 * 2 ** (random.integers(12) / 12)
        tones = (np.sin(2 * np.pi * root * note * h * seconds) / h for note in (1, 1.25, 1.5) for h in range(1, 7))
        samples[at : at + RATE] += 0.04 * np.exp(-3 * seconds) * sum(tones)
        samples[at : at + 2000] += 0.1 * np.exp(-np.arange(2000) / 300) * random.standard_normal(2000)
    return samples


def silence(count: int) -> Samples:
    return np.zeros(count, np.float32)


NOISES: dict[str, Callable[[int], Samples]] = {
    "silence": silence,
    "white noise": noise,
    "hum": hum,
    "clicks": clicks,
    "music": music,
}


def test_the_last_word_survives_a_stream_that_ends_right_after_it(
    session_factory: SessionFactory, audio: Path, texts: dict[str, str]
) -> None:
    samples = decode_audio(str(audio / "short.flac"))
    loud = np.flatnonzero(np.abs(samples) > 0.02)[-1]
    (final,) = finals(run(session_factory, samples[: loud + RATE // 20]))
    assert normalise(text_of(final.words))[-1] == normalise(texts["short"])[-1] == "ready"


def test_sessions_at_once_hear_what_each_hears_alone(engine: Engine, audio: Path) -> None:
    sentences = np.pad(decode_audio(str(audio / "short.flac")), (RATE // 2, RATE))
    alone = heard_text(anyio.run(lambda: in_step(Counting(engine), sentences)))
    found: list[str] = []

    async def hear() -> None:
        found.append(heard_text(await in_step(Counting(engine), sentences)))

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(hear)

    anyio.run(work)
    assert found == [alone, alone]


def test_leaving_in_mid_decode_frees_everything_within_a_second(
    engine: Engine, models: ModelManager, sentences: Samples
) -> None:
    before = models.current.users

    async def work() -> float:
        ears = Counting(engine)
        async with Session(ears, SessionOptions()) as session:
            await session.feed(sentences[: 5 * RATE])
            await ears.began.wait()
            left = time.monotonic()
        assert time.monotonic() - left < 0.5
        return left

    left = anyio.run(work)
    while models.current.users > before or models.current.batched.queued:
        assert time.monotonic() - left < 5  # other work of this machine included
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Session)]
    assert sys.exc_info() == (None, None, None)


def test_a_model_can_be_replaced_while_a_session_lives(
    engine: Engine, models: ModelManager, sentences: Samples, texts: dict[str, str]
) -> None:
    ears = Counting(engine)

    async def work() -> list[Event]:
        events: list[Event] = []

        async def read() -> None:
            async for event in session:
                events.append(event)

        async with Session(ears, SessionOptions()) as session, anyio.create_task_group() as group:
            group.start_soon(read)
            await feed_in_step(session, ears, sentences[: 5 * RATE])
            old = models.current
            with anyio.fail_after(60):
                await engine.reload("tiny.en")
            assert models.current is not old
            await feed_in_step(session, ears, sentences[5 * RATE :])
            await session.end()
        return events

    events = anyio.run(work)
    assert errors(texts["sentences"], heard_text(events)) <= 6
    assert text_of(confirmed(events)) == heard_text(events)


def test_a_model_that_is_not_there_is_refused_at_the_door(session_factory: SessionFactory) -> None:
    with pytest.raises(ModelNotFound):
        session_factory.open(SessionOptions(model="large-v3"))


def test_a_language_that_is_not_the_models_is_refused_at_the_door(session_factory: SessionFactory) -> None:
    with pytest.raises(BadOption, match="language"):
        session_factory.open(SessionOptions(language="de"))


class Counting:
    """Ears that know how often they were asked, and when they are idle."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        self.busy = 0
        self.began = anyio.Event()
        self._idle = anyio.Event()
        self._engine = engine

    async def decode_window(self, passage: object, *, model: str) -> object:
        async with self._working():
            return await self._engine.decode_window(passage, model=model)  # type: ignore[arg-type]

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        self.count += 1
        self.busy += 1
        self.began.set()
        try:
            yield
        finally:
            self.busy -= 1
            self._idle.set()
            self._idle = anyio.Event()

    async def idle(self) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        while self.busy:
            await self._idle.wait()
            for _ in range(10):
                await anyio.lowlevel.checkpoint()


async def feed_in_step(session: Session, ears: Counting, samples: Samples) -> None:
    """As at the pace of speech on a machine that keeps up."""
    for at in range(0, len(samples), FRAME):
        await session.feed(samples[at : at + FRAME])
        await ears.idle()


async def in_step(ears: Counting, samples: Samples) -> list[Event]:
    events: list[Event] = []

    async def read() -> None:
        async for event in session:
            events.append(event)

    async with Session(ears, SessionOptions()) as session, anyio.create_task_group() as group:  # type: ignore[arg-type]
        group.start_soon(read)
        await feed_in_step(session, ears, samples)
        await session.end()
    return events


def test_events_end_with_ended(session_factory: SessionFactory, sentences: Samples) -> None:
    events = run(session_factory, sentences[: 4 * RATE])
    assert isinstance(events[-2], Final)
    assert events[-1] == Ended(4.0)
