from __future__ import annotations

from functools import partial
from itertools import count
from random import Random
from typing import Any

import anyio
import numpy as np
import pytest
from known_words import (
    KnownVoiceActivity,
    KnownWordsDecoder,
    collect,
    confirmed,
    feed_in_step,
    finals,
    run_session,
    settle,
    speech,
    text_of,
)

from whisper_server.core.errors import EngineFailed, ModelNotFound
from whisper_server.inference.audio.waveform import Samples
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.session import Session, SessionOptions

RATE = 16_000
WORDS = [(f" w{number}", 0.5 + number * 0.4) for number in range(12)]
SAMPLES = speech((0.2, 5.0), seconds=7)
TEXT = "".join(text for text, _ in WORDS)


def session_of(decoder: KnownWordsDecoder, **options: Any) -> Session:
    return Session(decoder, SessionOptions(**options), voice_activity=KnownVoiceActivity())


def slow_session_of(decoder: KnownWordsDecoder) -> Session:
    """A session whose clock advances 100 s at every look, so that no audio is ahead of real time."""
    return Session(decoder, SessionOptions(), voice_activity=KnownVoiceActivity(), clock=partial(next, count(0, 100)))


def run(
    decoder: KnownWordsDecoder, samples: Samples, *, frame: float = 0.1, flush_at: Any = (), **options: Any
) -> list[Event]:
    async def work() -> list[Event]:
        return await run_session(session_of(decoder, **options), samples, frame=frame, flush_at=flush_at)

    return anyio.run(work)


def test_an_utterance_has_events_from_start_to_end() -> None:
    events = run(KnownWordsDecoder(WORDS), SAMPLES)
    assert events[0] == SpeechStarted(0.0)
    assert [type(event) for event in events[-3:]] == [SpeechStopped, Final, Ended]
    assert all(isinstance(event, Update) for event in events[1:-3])
    (final,) = finals(events)
    assert text_of(final.words) == TEXT
    assert (final.utterance, final.start, final.language, final.flushed) == (0, 0.0, "en", False)
    assert final.end == pytest.approx(5.0, abs=0.04)
    assert events[-1] == Ended(7.0)


def test_words_are_confirmed_while_speech_goes_on() -> None:
    updates = [event for event in run(KnownWordsDecoder(WORDS), SAMPLES) if isinstance(event, Update)]
    delays = [update.audio - word.end for update in updates for word in update.confirmed]
    assert len(delays) >= 9
    assert max(delays) < 1.5
    assert updates[0].audio == 0.95


@pytest.mark.parametrize("seed", range(8))
def test_confirmed_words_never_change_and_the_final_contains_them(seed: int) -> None:
    random = Random(seed)
    words = [(f" {random.choice('abc')}", 0.6 + number * 0.25) for number in range(60)]
    samples = speech((0.3, 6), (7, 7.5), (9.5, 16), seconds=18)
    decoder = KnownWordsDecoder(words, wrong=0.5, seed=seed, probability=random.choice([0.5, 0.99]))
    events = run(decoder, samples, frame=random.choice([0.02, 0.1, 0.37, 1.5]))
    assert text_of(confirmed(events)) == "".join(text_of(final.words) for final in finals(events))
    assert len(finals(events)) == 3
    seen: list[str] = []
    for event in events:
        if isinstance(event, Update):
            seen += [word.text for word in event.confirmed]
        elif isinstance(event, Final):
            assert [word.text for word in event.words[: len(seen)]] == seen
            seen = []


def test_a_long_window_is_trimmed_and_gets_context() -> None:
    decoder = KnownWordsDecoder([(f" w{n}", 0.5 + n * 0.4) for n in range(60)])
    events = run(decoder, speech((0.2, 24.5), seconds=26))
    assert text_of(finals(events)[-1].words).endswith(" w59")
    assert text_of(confirmed(events)) == "".join(f" w{n}" for n in range(60))
    assert max(len(window.samples) for window in decoder.windows) < 9 * RATE
    assert all(len(window.context) == 16 for window in decoder.windows[-5:])


def test_silence_is_not_decoded() -> None:
    decoder = KnownWordsDecoder(WORDS)
    assert run(decoder, np.zeros(60 * RATE, np.float32)) == [Ended(60.0)]
    assert decoder.windows == []


def test_the_final_needs_no_decoding_after_the_endpoint() -> None:
    decoder = KnownWordsDecoder(WORDS)

    async def work() -> int:
        async with session_of(decoder) as session:
            windows_before_endpoint = 0
            async for second in feed_in_step(session, SAMPLES):
                if second <= 5.45:
                    windows_before_endpoint = len(decoder.windows)
            return len(decoder.windows) - windows_before_endpoint

    assert anyio.run(work) == 0


def test_a_short_pause_does_not_end_the_utterance() -> None:
    words = [*WORDS[:5], (" more", 3.4), (" words", 3.8)]
    (final,) = finals(run(KnownWordsDecoder(words), speech((0.2, 2.5), (2.9, 4.0), seconds=5)))
    assert text_of(final.words) == "".join(text for text, _ in words)


def test_a_flush_ends_the_utterance_at_once() -> None:
    events = run(KnownWordsDecoder(WORDS), SAMPLES, flush_at=[2.6])
    first, second = finals(events)
    assert first.flushed and not second.flushed
    assert text_of(first.words) + text_of(second.words) == TEXT
    assert first.end == 2.6


def test_a_flush_in_silence_gets_an_empty_final() -> None:
    events = run(KnownWordsDecoder(WORDS), np.zeros(2 * RATE, np.float32), flush_at=[1.0, 1.5])
    assert [final.flushed for final in finals(events)] == [True, True]
    assert [final.utterance for final in finals(events)] == [0, 1]
    assert not any(final.words for final in finals(events))
    assert len(events) == 3


def test_without_an_endpoint_only_a_flush_ends_the_utterance() -> None:
    words = [*WORDS[:5], (" more", 6.4), (" words", 6.8)]
    samples = speech((0.2, 2.5), (5.9, 7.0), seconds=10)
    events = run(KnownWordsDecoder(words), samples, endpoint_ms=None, flush_at=[9.0])
    (final,) = finals(events)
    assert final.flushed
    assert text_of(final.words) == "".join(text for text, _ in words)
    assert not any(isinstance(event, SpeechStarted | SpeechStopped) for event in events)
    assert text_of(confirmed(events)) == text_of(final.words)


def test_without_an_endpoint_the_end_of_the_session_ends_the_utterance() -> None:
    (final,) = finals(run(KnownWordsDecoder(WORDS), SAMPLES, endpoint_ms=None))
    assert not final.flushed
    assert text_of(final.words) == TEXT
    assert finals(run(KnownWordsDecoder(WORDS), np.zeros(RATE, np.float32), endpoint_ms=None)) == []


def test_the_last_word_before_the_end_of_the_stream_is_decoded() -> None:
    (final,) = finals(run(KnownWordsDecoder(WORDS), SAMPLES[: round((WORDS[7][1] + 0.05) * RATE)], frame=0.02))
    assert text_of(final.words).endswith(WORDS[7][0])


def test_a_cleared_utterance_gets_no_final() -> None:
    async def work() -> list[Event]:
        events: list[Event] = []
        async with (
            session_of(KnownWordsDecoder([*WORDS, (" after", 8.0)])) as session,
            anyio.create_task_group() as group,
        ):
            group.start_soon(collect, session, events)
            async for second in feed_in_step(session, speech((0.2, 3), (7.2, 8.2), seconds=10)):
                if second == pytest.approx(2.0):
                    await session.clear()
                    await session.clear()
                    await session.feed(np.zeros(RATE, np.float32))
                    break
            async for _ in feed_in_step(session, speech((4.2, 5.2), seconds=7)):
                pass
            await session.end()
        return events

    events = anyio.run(work)
    assert len(finals(events)) == 1
    assert finals(events)[0].start > 6


def test_clearing_during_a_decode_drops_its_result() -> None:
    decoder = KnownWordsDecoder(WORDS)

    async def work() -> list[Event]:
        decoder.blocked_until = anyio.Event()
        events: list[Event] = []
        async with slow_session_of(decoder) as session, anyio.create_task_group() as group:
            group.start_soon(collect, session, events)
            await session.feed(SAMPLES[: 2 * RATE])
            await decoder.started.wait()
            await session.clear()
            decoder.blocked_until.set()
            await session.end()
        return events

    assert anyio.run(work) == [SpeechStarted(0.0), Ended(2.0)]


def test_without_partials_updates_only_confirm() -> None:
    updates = [event for event in run(KnownWordsDecoder(WORDS), SAMPLES, partials=False) if isinstance(event, Update)]
    assert updates
    assert all(update.confirmed and not update.pending for update in updates)


def test_an_utterance_without_a_pause_ends_before_30_seconds() -> None:
    words = [(f" w{number}", 0.5 + number * 0.4) for number in range(150)]
    events = run(KnownWordsDecoder(words), speech((0.2, 61), seconds=62))
    assert len(finals(events)) == 3
    assert all(final.end - final.start < 30 for final in finals(events))
    assert text_of(confirmed(events)) == "".join(text for text, _ in words)
    kinds = [type(event) for event in events if not isinstance(event, Update)]
    assert kinds == [SpeechStarted, SpeechStopped, Final] * 3 + [Ended]


def test_feeding_waits_while_too_much_is_undecoded() -> None:
    decoder = KnownWordsDecoder(WORDS)
    samples = speech((0.2, 30), seconds=30)

    async def work() -> float:
        decoder.blocked_until = anyio.Event()
        async with slow_session_of(decoder) as session, anyio.create_task_group() as group:
            group.start_soon(feed_all, session, samples)
            await settle()
            taken = session.received
            decoder.blocked_until.set()
            await settle()
            assert session.received == 30.0
        return taken

    assert 10 <= anyio.run(work) <= 11.5


def test_a_slow_server_reports_lag_once_and_takes_larger_steps() -> None:
    decoder = KnownWordsDecoder([(f" w{number}", 0.5 + number * 0.4) for number in range(40)])

    async def work() -> list[Event]:
        decoder.blocked_until = anyio.Event()
        session = slow_session_of(decoder)
        async with session, anyio.create_task_group() as group:
            group.start_soon(feed_all, session, speech((0.2, 17), seconds=19))
            await settle()
            decoder.blocked_until.set()
            await settle()
            await session.end()
            return [event async for event in session]
        raise AssertionError

    events = anyio.run(work)
    assert [event.seconds for event in events if isinstance(event, Lag)] == [pytest.approx(10, abs=1)]
    assert len(decoder.windows) < 8
    assert text_of(confirmed(events)) == "".join(f" w{number}" for number in range(40))


def test_audio_faster_than_real_time_is_decoded_in_the_same_windows() -> None:
    samples = speech((0.2, 5), (5.4, 9), (11, 17), seconds=19)
    words = [(f" w{number}", 0.5 + number * 0.4) for number in range(40)]
    paced, pushed = KnownWordsDecoder(words), KnownWordsDecoder(words)
    run(paced, samples)

    async def push() -> None:
        session = session_of(pushed)
        async with session:
            await session.feed(samples)
            await session.end()
            assert [type(event) async for event in session][-1] is Ended

    anyio.run(push)
    assert len(paced.windows) > 20
    assert [len(window.samples) for window in pushed.windows] == [len(window.samples) for window in paced.windows]


async def feed_all(session: Session, samples: Samples) -> None:
    for at in range(0, len(samples), 1600):
        await session.feed(samples[at : at + 1600])


def test_leaving_the_session_cancels_decoding_and_feeding() -> None:
    decoder = KnownWordsDecoder(WORDS)

    async def work() -> None:
        decoder.blocked_until = anyio.Event()
        async with anyio.create_task_group() as group, session_of(decoder) as session:
            group.start_soon(session.feed, speech((0.2, 30), seconds=30))
            group.start_soon(collect, session, [])
            await decoder.started.wait()

    async def in_time() -> None:
        with anyio.fail_after(1):
            await work()

    anyio.run(in_time)
    assert decoder.cancelled == 1


@pytest.mark.parametrize("error", [ModelNotFound("gone"), EngineFailed("broken")])
def test_a_failure_reaches_the_reader_and_the_feeder(error: Exception) -> None:
    decoder = KnownWordsDecoder(WORDS)

    async def work() -> None:
        decoder.error = error  # type: ignore[assignment]
        async with session_of(decoder) as session:
            await session.feed(SAMPLES[:16000])
            await decoder.started.wait()
            await settle()
            with pytest.raises(type(error)):
                await session.feed(SAMPLES)
            with pytest.raises(type(error)):
                async for _ in session:
                    pass

    anyio.run(work)


def test_an_unexpected_exception_becomes_an_engine_failure(caplog: pytest.LogCaptureFixture) -> None:
    decoder = KnownWordsDecoder(WORDS)

    async def work() -> None:
        decoder.words = None  # type: ignore[assignment]
        async with session_of(decoder) as session:
            await session.feed(SAMPLES[:16000])
            with pytest.raises(EngineFailed, match="TypeError"):
                async for _ in session:
                    pass

    anyio.run(work)
    assert "a live session failed" in caplog.text


def test_the_language_is_detected_once() -> None:
    decoder = KnownWordsDecoder([*WORDS, (" more", 9.0)])
    decoder.language, decoder.language_probability = "de", 0.8
    events = run(decoder, speech((0.2, 5), (8, 9.4), seconds=11))
    assert [window.language for window in decoder.windows][:3] == [None, None, None]
    assert {window.language for window in decoder.windows[4:]} == {"de"}
    assert [final.language for final in finals(events)] == ["de", "de"]


def test_nothing_is_confirmed_before_the_language_is_chosen() -> None:
    decoder = KnownWordsDecoder(WORDS)
    decoder.language_probability = 0.3
    updates = [event for event in run(decoder, SAMPLES) if isinstance(event, Update)]
    assert all(update.audio >= 4 for update in updates if update.confirmed)


def test_a_given_language_and_prompt_reach_every_window() -> None:
    decoder = KnownWordsDecoder(WORDS)
    run(decoder, SAMPLES, language="fr", prompt="Bonjour")
    assert {(window.language, window.prompt) for window in decoder.windows} == {("fr", "Bonjour")}


def test_prefix_words_keep_the_tokens_of_their_model() -> None:
    """A reloaded model can tell that they belong to another vocabulary."""
    decoder = KnownWordsDecoder([(f" w{number}", 0.5 + number * 0.4) for number in range(30)])
    run(decoder, speech((0.2, 12), seconds=13))
    prefixes = {word for window in decoder.windows for word in window.prefix}
    assert {word.tokens for word in prefixes} <= {(hash(text),) for text, _ in decoder.words}
