from __future__ import annotations

import anyio
import pytest

from whisper_server.core.errors import EngineFailed
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import CoalescingEventQueue, Ended, Event, Final, SpeechStarted, Update

ONE, TWO, THREE = (Word(f" {text}", 0, 1, 0.9) for text in ("one", "two", "three"))


def read(queue: CoalescingEventQueue) -> list[Event]:
    async def read_all() -> list[Event]:
        return [event async for event in queue.read()]

    return anyio.run(read_all)


def final(*words: Word) -> Final:
    return Final(0, words, 0, 1, 2, "en", False)


def test_unread_updates_are_merged_without_losing_confirmed_words() -> None:
    queue = CoalescingEventQueue()
    queue.put(SpeechStarted(0))
    queue.put(Update(0, (ONE,), (TWO,), 1))
    queue.put(Update(0, (), (TWO, THREE), 1.5))
    queue.put(Update(0, (TWO,), (THREE,), 2))
    queue.put(final(ONE, TWO, THREE))
    queue.put(Ended(3))
    assert read(queue) == [
        SpeechStarted(0),
        Update(0, (ONE, TWO), (THREE,), 2),
        final(ONE, TWO, THREE),
        Ended(3),
    ]


def test_updates_of_two_utterances_are_not_merged() -> None:
    queue = CoalescingEventQueue()
    updates: list[Event] = [Update(0, (ONE,), (), 1), Update(1, (TWO,), (), 2)]
    for event in (*updates, Ended(3)):
        queue.put(event)
    assert read(queue)[:2] == updates


def test_the_reader_gets_the_unread_events_and_then_the_error() -> None:
    queue = CoalescingEventQueue()
    queue.put(SpeechStarted(0))
    queue.fail(EngineFailed("broken"))
    events: list[Event] = []

    async def read_on() -> None:
        async for event in queue.read():
            events.append(event)

    with pytest.raises(EngineFailed, match="broken"):
        anyio.run(read_on)
    assert events == [SpeechStarted(0)]
    with pytest.raises(EngineFailed):
        queue.raise_error()


def test_a_full_queue_waits_for_its_reader() -> None:
    async def work() -> None:
        queue = CoalescingEventQueue()
        for number in range(300):
            queue.put(SpeechStarted(number))
        queue.put(Ended(300))
        with anyio.move_on_after(0.01) as waited:
            await queue.wait_for_room()
        assert waited.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(queue.wait_for_room)
            assert len([event async for event in queue.read()]) == 301

    anyio.run(work)


def test_closing_ends_reading_and_waiting() -> None:
    async def work() -> list[Event]:
        queue = CoalescingEventQueue()
        for number in range(300):
            queue.put(SpeechStarted(number))
        queue.close()
        await queue.wait_for_room()
        return [event async for event in queue.read()]

    assert anyio.run(work) == []
