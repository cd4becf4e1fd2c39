from __future__ import annotations

from functools import partial
from itertools import count
from random import Random
from typing import Any

import anyio
import numpy as np
import pytest
from dictation import KnownEars, KnownVoice, confirmed, fed, finals, listen, settled, speech, text_of

from whisper_server.core.errors import EngineFailed, ModelNotFound
from whisper_server.inference.audio.features import Samples
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.session import Session, SessionOptions

RATE = 16_000
WORDS = [(f" w{number}", 0.5 + number * 0.4) for number in range(12)]
SPOKEN = speech((0.2, 5.0), seconds=7)
TEXT = "".join(text for text, _ in WORDS)


def session_of(ears: KnownEars, **options: Any) -> Session:
    return Session(ears, SessionOptions(**options), voice=KnownVoice())


def slow_session_of(ears: KnownEars) -> Session:
    """For it much time passes between any two looks at the clock: all sound comes late."""
    return Session(ears, SessionOptions(), voice=KnownVoice(), clock=partial(next, count(0, 100)))


def run(ears: KnownEars, samples: Samples, *, frame: float = 0.1, flush_at: Any = (), **options: Any) -> list[Event]:
    async def work() -> list[Event]:
        return await listen(session_of(ears, **options), samples, frame=frame, flush_at=flush_at)

    return anyio.run(work)


def test_an_utterance_from_start_to_end() -> None:
    events = run(KnownEars(WORDS), SPOKEN)
    assert events[0] == SpeechStarted(0.0)
    assert [type(event) for event in events[-3:]] == [SpeechStopped, Final, Ended]
    assert all(isinstance(event, Update) for event in events[1:-3])
    (final,) = finals(events)
    assert text_of(final.words) == TEXT
    assert (final.utterance, final.start, final.language, final.flushed) == (0, 0.0, "en", False)
    assert final.end == pytest.approx(5.0, abs=0.04)
    assert events[-1] == Ended(7.0)


def test_words_are_confirmed_while_speech_goes_on() -> None:
    updates = [event for event in run(KnownEars(WORDS), SPOKEN) if isinstance(event, Update)]
    delays = [update.audio - word.end for update in updates for word in update.confirmed]
    assert len(delays) >= 9
    assert max(delays) < 1.5
    assert updates[0].audio == 0.95


@pytest.mark.parametrize("seed", range(8))
def test_confirmed_words_only_ever_grow_and_make_up_the_final(seed: int) -> None:
    random = Random(seed)
    words = [(f" {random.choice('abc')}", 0.6 + number * 0.25) for number in range(60)]
    samples = speech((0.3, 6), (7, 7.5), (9.5, 16), seconds=18)
    ears = KnownEars(words, wrong=0.5, seed=seed, probability=random.choice([0.5, 0.99]))
    events = run(ears, samples, frame=random.choice([0.02, 0.1, 0.37, 1.5]))
    assert text_of(confirmed(events)) == "".join(text_of(final.words) for final in finals(events))
    assert len(finals(events)) == 3
    seen: list[str] = []
    for event in events:
        if isinstance(event, Update):
            seen += [word.text for word in event.confirmed]
        elif isinstance(event, Final):
            assert [word.text for word in event.words[: len(seen)]] == seen
            seen = []


def test_a_window_begins_with_what_was_confirmed_in_it() -> None:
    ears = KnownEars([(f" w{n}", 0.5 + n * 0.4) for n in range(60)])
    events = run(ears, speech((0.2, 24.5), seconds=26))
    assert text_of(finals(events)[-1].words).endswith(" w59")
    assert text_of(confirmed(events)) == "".join(f" w{n}" for n in range(60))
    assert max(len(passage.samples) for passage in ears.passages) < 9 * RATE
    assert all(len(passage.context) == 16 for passage in ears.passages[-5:])


def test_silence_is_not_decoded() -> None:
    ears = KnownEars(WORDS)
    assert run(ears, np.zeros(60 * RATE, np.float32)) == [Ended(60.0)]
    assert ears.passages == []


def test_the_final_is_there_as_soon_as_the_endpoint() -> None:
    ears = KnownEars(WORDS)

    async def work() -> int:
        async with session_of(ears) as session:
            heard_before_the_endpoint = 0
            async for second in fed(session, SPOKEN, 0.1):
                if second <= 5.45:
                    heard_before_the_endpoint = len(ears.passages)
            return len(ears.passages) - heard_before_the_endpoint

    assert anyio.run(work) == 0


def test_speech_that_goes_on_after_a_short_pause_is_one_utterance() -> None:
    words = [*WORDS[:5], (" more", 3.4), (" words", 3.8)]
    (final,) = finals(run(KnownEars(words), speech((0.2, 2.5), (2.9, 4.0), seconds=5)))
    assert text_of(final.words) == "".join(text for text, _ in words)


def test_a_flush_finishes_the_utterance_at_once() -> None:
    events = run(KnownEars(WORDS), SPOKEN, flush_at=[2.6])
    first, second = finals(events)
    assert first.flushed and not second.flushed
    assert text_of(first.words) + text_of(second.words) == TEXT
    assert first.end == 2.6


def test_a_flush_of_nothing_is_answered_too() -> None:
    events = run(KnownEars(WORDS), np.zeros(2 * RATE, np.float32), flush_at=[1.0, 1.5])
    assert [final.flushed for final in finals(events)] == [True, True]
    assert [final.utterance for final in finals(events)] == [0, 1]
    assert not any(final.words for final in finals(events))
    assert len(events) == 3


def test_without_an_endpoint_only_a_flush_finishes() -> None:
    words = [*WORDS[:5], (" more", 6.4), (" words", 6.8)]
    samples = speech((0.2, 2.5), (5.9, 7.0), seconds=10)
    events = run(KnownEars(words), samples, endpoint_ms=None, flush_at=[9.0])
    (final,) = finals(events)
    assert final.flushed
    assert text_of(final.words) == "".join(text for text, _ in words)
    assert not any(isinstance(event, SpeechStarted | SpeechStopped) for event in events)
    assert text_of(confirmed(events)) == text_of(final.words)


def test_without_an_endpoint_the_end_finishes_what_was_not_flushed() -> None:
    (final,) = finals(run(KnownEars(WORDS), SPOKEN, endpoint_ms=None))
    assert not final.flushed
    assert text_of(final.words) == TEXT
    assert finals(run(KnownEars(WORDS), np.zeros(RATE, np.float32), endpoint_ms=None)) == []


def test_the_last_word_survives_the_end_of_the_stream() -> None:
    (final,) = finals(run(KnownEars(WORDS), SPOKEN[: round((WORDS[7][1] + 0.05) * RATE)], frame=0.02))
    assert text_of(final.words).endswith(WORDS[7][0])


def test_what_is_cleared_gets_no_final() -> None:
    async def work() -> list[Event]:
        events: list[Event] = []

        async def read() -> None:
            async for event in session:
                events.append(event)

        async with session_of(KnownEars([*WORDS, (" after", 8.0)])) as session, anyio.create_task_group() as group:
            group.start_soon(read)
            async for second in fed(session, speech((0.2, 3), (7.2, 8.2), seconds=10), 0.1):
                if second == pytest.approx(2.0):
                    await session.clear()
                    await session.clear()
                    await session.feed(np.zeros(RATE, np.float32))
                    break
            async for _ in fed(session, speech((4.2, 5.2), seconds=7), 0.1):
                pass
            await session.end()
        return events

    events = anyio.run(work)
    assert len(finals(events)) == 1
    assert finals(events)[0].start > 6


def test_a_session_that_is_cleared_while_it_decodes_forgets_the_result() -> None:
    ears = KnownEars(WORDS)

    async def work() -> list[Event]:
        ears.waits = anyio.Event()
        events: list[Event] = []

        async def read() -> None:
            async for event in session:
                events.append(event)

        async with slow_session_of(ears) as session, anyio.create_task_group() as group:
            group.start_soon(read)
            await session.feed(SPOKEN[: 2 * RATE])
            await ears.began.wait()
            await session.clear()
            ears.waits.set()
            await session.end()
        return events

    assert anyio.run(work) == [SpeechStarted(0.0), Ended(2.0)]


def test_without_partials_updates_only_confirm() -> None:
    updates = [event for event in run(KnownEars(WORDS), SPOKEN, partials=False) if isinstance(event, Update)]
    assert updates
    assert all(update.confirmed and not update.pending for update in updates)


def test_speech_without_a_pause_is_closed_before_30_seconds() -> None:
    words = [(f" w{number}", 0.5 + number * 0.4) for number in range(150)]
    events = run(KnownEars(words), speech((0.2, 61), seconds=62))
    assert len(finals(events)) == 3
    assert all(final.end - final.start < 30 for final in finals(events))
    assert text_of(confirmed(events)) == "".join(text for text, _ in words)
    kinds = [type(event) for event in events if not isinstance(event, Update)]
    assert kinds == [SpeechStarted, SpeechStopped, Final] * 3 + [Ended]


def test_feeding_waits_while_too_much_is_undecoded() -> None:
    ears = KnownEars(WORDS)
    samples = speech((0.2, 30), seconds=30)

    async def work() -> float:
        ears.waits = anyio.Event()
        async with slow_session_of(ears) as session, anyio.create_task_group() as group:
            group.start_soon(feed_all, session, samples)
            await settled()
            taken = session.heard
            ears.waits.set()
            await settled()
            assert session.heard == 30.0
        return taken

    assert 10 <= anyio.run(work) <= 11.5


def test_a_server_that_is_behind_says_so_once_and_takes_larger_steps() -> None:
    ears = KnownEars([(f" w{number}", 0.5 + number * 0.4) for number in range(40)])

    async def work() -> list[Event]:
        ears.waits = anyio.Event()
        session = slow_session_of(ears)
        async with session, anyio.create_task_group() as group:
            group.start_soon(feed_all, session, speech((0.2, 17), seconds=19))
            await settled()
            ears.waits.set()
            await settled()
            await session.end()
            return [event async for event in session]

    events = anyio.run(work)
    assert [event.seconds for event in events if isinstance(event, Lag)] == [pytest.approx(10, abs=1)]
    assert len(ears.passages) < 8
    assert text_of(confirmed(events)) == "".join(f" w{number}" for number in range(40))


def test_sound_that_comes_faster_than_speech_is_decoded_as_if_it_were_spoken() -> None:
    samples = speech((0.2, 5), (5.4, 9), (11, 17), seconds=19)
    words = [(f" w{number}", 0.5 + number * 0.4) for number in range(40)]
    paced, pushed = KnownEars(words), KnownEars(words)
    run(paced, samples)

    async def push() -> None:
        session = session_of(pushed)
        async with session:
            await session.feed(samples)
            await session.end()
            assert [type(event) async for event in session][-1] is Ended

    anyio.run(push)
    assert len(paced.passages) > 20
    assert [len(passage.samples) for passage in pushed.passages] == [len(passage.samples) for passage in paced.passages]


async def feed_all(session: Session, samples: Samples) -> None:
    for at in range(0, len(samples), 1600):
        await session.feed(samples[at : at + 1600])


def test_leaving_ends_what_runs_and_what_waits() -> None:
    ears = KnownEars(WORDS)

    async def work() -> None:
        ears.waits = anyio.Event()
        async with anyio.create_task_group() as group, session_of(ears) as session:
            group.start_soon(session.feed, speech((0.2, 30), seconds=30))
            group.start_soon(partial(drain, session))
            await ears.began.wait()

    async def drain(session: Session) -> None:
        async for _ in session:
            pass

    async def in_time() -> None:
        with anyio.fail_after(1):
            await work()

    anyio.run(in_time)
    assert ears.left == 1


@pytest.mark.parametrize("error", [ModelNotFound("gone"), EngineFailed("broken")])
def test_a_failure_reaches_the_reader_and_the_feeder(error: Exception) -> None:
    ears = KnownEars(WORDS)

    async def work() -> None:
        ears.fails = error  # type: ignore[assignment]
        async with session_of(ears) as session:
            await session.feed(SPOKEN[:16000])
            await ears.began.wait()
            await settled()
            with pytest.raises(type(error)):
                await session.feed(SPOKEN)
            with pytest.raises(type(error)):
                async for _ in session:
                    pass

    anyio.run(work)


def test_a_fault_of_ours_is_an_engine_failure(caplog: pytest.LogCaptureFixture) -> None:
    ears = KnownEars(WORDS)

    async def work() -> None:
        ears.words = None  # type: ignore[assignment]
        async with session_of(ears) as session:
            await session.feed(SPOKEN[:16000])
            with pytest.raises(EngineFailed, match="TypeError"):
                async for _ in session:
                    pass

    anyio.run(work)
    assert "a live session failed" in caplog.text


def test_the_language_is_found_once() -> None:
    ears = KnownEars([*WORDS, (" more", 9.0)])
    ears.language, ears.language_probability = "de", 0.8
    events = run(ears, speech((0.2, 5), (8, 9.4), seconds=11))
    assert [passage.language for passage in ears.passages][:3] == [None, None, None]
    assert {passage.language for passage in ears.passages[4:]} == {"de"}
    assert [final.language for final in finals(events)] == ["de", "de"]


def test_nothing_is_certain_before_the_language_is() -> None:
    ears = KnownEars(WORDS)
    ears.language_probability = 0.3
    updates = [event for event in run(ears, SPOKEN) if isinstance(event, Update)]
    assert all(update.audio >= 4 for update in updates if update.confirmed)


def test_a_given_language_is_what_is_decoded() -> None:
    ears = KnownEars(WORDS)
    run(ears, SPOKEN, language="fr", prompt="Bonjour")
    assert {(passage.language, passage.prompt) for passage in ears.passages} == {("fr", "Bonjour")}


def test_words_of_the_model_before_keep_their_tokens() -> None:
    """So whoever decodes next can tell that they are another vocabulary's."""
    ears = KnownEars([(f" w{number}", 0.5 + number * 0.4) for number in range(30)])
    run(ears, speech((0.2, 12), seconds=13))
    prefixes = {word for passage in ears.passages for word in passage.prefix}
    assert {word.tokens for word in prefixes} <= {(hash(text),) for text, _ in ears.words}
