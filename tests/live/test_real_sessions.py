"""Live sessions with real models and real audio: what they recognise, and that they release everything."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from faster_whisper import decode_audio
from known_words import collect, confirmed, finals, text_of

from benchmarks.speech.word_error_rate import distance, normalise
from whisper_server.core.errors import BadOption, ModelNotFound
from whisper_server.core.notifier import Notifier
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.waveform import Samples
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.transcription.streaming import DecodeWindow, Hypothesis
from whisper_server.live.events import Ended, Event, Final
from whisper_server.live.session import Session, SessionFactory, SessionOptions

RATE = 16_000
FRAME = 1_600


@pytest.fixture
def transcriber(models: ModelManager) -> Transcriber:
    return Transcriber(models, AudioDecoder(max_seconds=600), Admission(max_requests=8, max_audio_seconds=3600))


@pytest.fixture
def session_factory(transcriber: Transcriber) -> SessionFactory:
    return SessionFactory(transcriber)


@pytest.fixture(scope="session")
def sentences(audio: Path) -> Samples:
    return np.pad(decode_audio(str(audio / "sentences.flac")), (RATE // 2, RATE))


def word_error_rate(reference: str, text: str) -> float:
    """In percent."""
    return 100 * distance(normalise(reference), normalise(text)) / len(normalise(reference))


async def feed_unpaced(session_factory: SessionFactory, samples: Samples, **options: object) -> list[Event]:
    """Feed the session as fast as it takes the audio and return its events."""
    events: list[Event] = []
    session = session_factory.open(SessionOptions(**options))  # type: ignore[arg-type]
    async with session, anyio.create_task_group() as group:
        group.start_soon(collect, session, events)
        for at in range(0, len(samples), FRAME):
            await session.feed(samples[at : at + FRAME])
        await session.end()
    return events


def run(session_factory: SessionFactory, samples: Samples, **options: object) -> list[Event]:
    async def work() -> list[Event]:
        return await feed_unpaced(session_factory, samples, **options)

    return anyio.run(work)


def recognised_text(events: Sequence[Event]) -> str:
    return "".join(text_of(final.words) for final in finals(events))


def test_speech_becomes_text(session_factory: SessionFactory, sentences: Samples, texts: dict[str, str]) -> None:
    events = run(session_factory, sentences)
    assert word_error_rate(texts["sentences"], recognised_text(events)) <= 6
    assert text_of(confirmed(events)) == recognised_text(events)
    words = [word for final in finals(events) for word in final.words]
    assert all(before.end <= after.end + 0.05 for before, after in zip(words, words[1:], strict=False))
    assert all(0 <= word.start <= word.end <= len(sentences) / RATE for word in words)
    assert {final.language for final in finals(events)} == {"en"}


@pytest.mark.full
def test_audio_in_real_time_and_faster_gives_the_same_text(
    session_factory: SessionFactory, transcriber: Transcriber, audio: Path
) -> None:
    samples = decode_audio(str(audio / "long.flac"))[: 14 * RATE]
    text = recognised_text(anyio.run(lambda: in_step(CountingDecoder(transcriber), samples)))
    assert len(normalise(text)) > 25
    assert recognised_text(run(session_factory, samples)) == text


@pytest.mark.parametrize("kind", ["silence", "white noise", "hum", "clicks", "music"])
def test_audio_without_speech_is_not_decoded(transcriber: Transcriber, kind: str) -> None:
    decoder = CountingDecoder(transcriber)
    assert anyio.run(lambda: in_step(decoder, NOT_SPEECH[kind](60 * RATE))) == [Ended(60.0)]
    assert decoder.count == 0


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


NOT_SPEECH: dict[str, Callable[[int], Samples]] = {
    "silence": silence,
    "white noise": noise,
    "hum": hum,
    "clicks": clicks,
    "music": music,
}


def test_the_last_word_before_the_end_of_the_stream_is_recognised(
    session_factory: SessionFactory, audio: Path, texts: dict[str, str]
) -> None:
    samples = decode_audio(str(audio / "short.flac"))
    loud = np.flatnonzero(np.abs(samples) > 0.02)[-1]
    (final,) = finals(run(session_factory, samples[: loud + RATE // 20]))
    assert normalise(text_of(final.words))[-1] == normalise(texts["short"])[-1] == "ready"


def test_concurrent_sessions_recognise_what_each_recognises_alone(transcriber: Transcriber, audio: Path) -> None:
    sentences = np.pad(decode_audio(str(audio / "short.flac")), (RATE // 2, RATE))
    alone = recognised_text(anyio.run(lambda: in_step(CountingDecoder(transcriber), sentences)))
    texts: list[str] = []

    async def recognise() -> None:
        texts.append(recognised_text(await in_step(CountingDecoder(transcriber), sentences)))

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(recognise)

    anyio.run(work)
    assert texts == [alone, alone]


@pytest.mark.usefixtures("always_computing")
def test_leaving_during_a_decode_frees_everything(
    transcriber: Transcriber, models: ModelManager, sentences: Samples
) -> None:
    before = models.current.users

    async def work() -> float:
        decoder = CountingDecoder(transcriber)
        async with Session(decoder, SessionOptions()) as session:
            sessions.add(session)
            await session.feed(sentences[: 5 * RATE])
            await decoder.started.wait()
            left = time.monotonic()
        assert time.monotonic() - left < 0.5
        return left

    sessions = weakref.WeakSet[Session]()
    left = anyio.run(work)
    while models.current.users > before or models.current.batcher.queued:
        assert time.monotonic() - left < 5  # the machine may have other work
    gc.collect()
    assert not sessions
    assert sys.exc_info() == (None, None, None)


def test_a_model_can_be_replaced_during_a_session(
    transcriber: Transcriber, models: ModelManager, audio: Path, texts: dict[str, str]
) -> None:
    decoder = CountingDecoder(transcriber)
    samples = np.pad(decode_audio(str(audio / "short.flac")), (RATE // 2, RATE))

    async def work() -> list[Event]:
        events: list[Event] = []
        async with Session(decoder, SessionOptions()) as session, anyio.create_task_group() as group:
            group.start_soon(collect, session, events)
            await feed_in_step(session, decoder, samples[: 2 * RATE])
            old = models.current
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(models.reload, "tiny.en")
            assert models.current is not old
            await feed_in_step(session, decoder, samples[2 * RATE :])
            await session.end()
        return events

    events = anyio.run(work)
    assert word_error_rate(texts["short"], recognised_text(events)) <= 10
    assert text_of(confirmed(events)) == recognised_text(events)


def test_a_model_that_is_not_loaded_is_refused(session_factory: SessionFactory) -> None:
    with pytest.raises(ModelNotFound):
        session_factory.open(SessionOptions(model="large-v3"))


def test_a_language_that_the_model_lacks_is_refused(session_factory: SessionFactory) -> None:
    with pytest.raises(BadOption, match="language"):
        session_factory.open(SessionOptions(language="de"))


class CountingDecoder:
    """Counts the engine's decodes and knows when it is idle."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.count = 0
        self.busy = 0
        self.started = anyio.Event()
        self._became_idle = Notifier()
        self._transcriber = transcriber

    async def decode_window(self, window: DecodeWindow, /, *, model: str) -> Hypothesis:
        async with self._working():
            return await self._transcriber.decode_window(window, model=model)

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        self.count += 1
        self.busy += 1
        self.started.set()
        try:
            yield
        finally:
            self.busy -= 1
            self._became_idle.notify()

    async def idle(self) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        while self.busy:
            await self._became_idle.next.wait()
            for _ in range(10):
                await anyio.lowlevel.checkpoint()


async def feed_in_step(session: Session, decoder: CountingDecoder, samples: Samples) -> None:
    """Like a microphone on a machine that keeps up."""
    for at in range(0, len(samples), FRAME):
        await session.feed(samples[at : at + FRAME])
        await decoder.idle()


async def in_step(decoder: CountingDecoder, samples: Samples) -> list[Event]:
    events: list[Event] = []
    async with Session(decoder, SessionOptions()) as session, anyio.create_task_group() as group:
        group.start_soon(collect, session, events)
        await feed_in_step(session, decoder, samples)
        await session.end()
    return events


def test_events_end_with_ended(session_factory: SessionFactory, sentences: Samples) -> None:
    events = run(session_factory, sentences[: 4 * RATE])
    assert isinstance(events[-2], Final)
    assert events[-1] == Ended(4.0)
