from __future__ import annotations

import anyio
import pytest

from whisper_server.core.errors import EngineFailed
from whisper_server.live.event_queue import CoalescingEventQueue
from whisper_server.live.events import Ended, Event, Final, SpeechStarted, Update, Word

ONE, TWO, THREE = (Word(f" {text}", 0, 1, 0.9) for text in ("one", "two", "three"))


def read(outbox: CoalescingEventQueue) -> list[Event]:
    async def all_of() -> list[Event]:
        return [event async for event in outbox.read()]

    return anyio.run(all_of)


def final(*words: Word) -> Final:
    return Final(0, words, 0, 1, 2, "en", False)


def test_updates_that_wait_become_one_and_no_certain_word_is_lost() -> None:
    outbox = CoalescingEventQueue()
    outbox.put(SpeechStarted(0))
    outbox.put(Update(0, (ONE,), (TWO,), 1))
    outbox.put(Update(0, (), (TWO, THREE), 1.5))
    outbox.put(Update(0, (TWO,), (THREE,), 2))
    outbox.put(final(ONE, TWO, THREE))
    outbox.put(Ended(3))
    assert read(outbox) == [
        SpeechStarted(0),
        Update(0, (ONE, TWO), (THREE,), 2),
        final(ONE, TWO, THREE),
        Ended(3),
    ]


def test_updates_of_two_utterances_stay_two() -> None:
    outbox = CoalescingEventQueue()
    updates = [Update(0, (ONE,), (), 1), Update(1, (TWO,), (), 2)]
    for event in (*updates, Ended(3)):
        outbox.put(event)
    assert read(outbox)[:2] == updates


def test_the_reader_gets_what_waits_and_then_the_error() -> None:
    outbox = CoalescingEventQueue()
    outbox.put(SpeechStarted(0))
    outbox.fail(EngineFailed("broken"))
    found: list[Event] = []

    async def read_on() -> None:
        async for event in outbox.read():
            found.append(event)

    with pytest.raises(EngineFailed, match="broken"):
        anyio.run(read_on)
    assert found == [SpeechStarted(0)]
    with pytest.raises(EngineFailed):
        outbox.check()


def test_a_full_outbox_waits_for_its_reader() -> None:
    async def work() -> None:
        outbox = CoalescingEventQueue()
        for number in range(300):
            outbox.put(SpeechStarted(number))
        outbox.put(Ended(300))
        with anyio.move_on_after(0.01) as waited:
            await outbox.has_room()
        assert waited.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(outbox.has_room)
            assert len([event async for event in outbox.read()]) == 301

    anyio.run(work)


def test_closing_ends_reader_and_writer() -> None:
    async def work() -> list[Event]:
        outbox = CoalescingEventQueue()
        for number in range(300):
            outbox.put(SpeechStarted(number))
        outbox.close()
        await outbox.has_room()
        return [event async for event in outbox.read()]

    assert anyio.run(work) == []
