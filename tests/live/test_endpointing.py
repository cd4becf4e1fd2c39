from __future__ import annotations

from random import Random

import pytest

from whisper_server.inference.audio.vad import WINDOW
from whisper_server.live.endpointing import Endpointer, SpeechTransition

RATE = 16_000


def endpointer(*, endpoint_ms: int = 500, prefix_ms: int = 300, threshold: float = 0.5) -> Endpointer:
    return Endpointer(threshold=threshold, endpoint=endpoint_ms * 16, prefix=prefix_ms * 16)


def windows(*parts: tuple[float, int]) -> list[float]:
    """So many windows of each probability."""
    return [probability for probability, count in parts for _ in range(count)]


def test_an_utterance_from_its_prefix_to_its_silence() -> None:
    marks = endpointer().hear(windows((0.0, 20), (0.9, 30), (0.0, 20)))
    assert marks == [
        SpeechTransition("started", 20 * WINDOW - 4800),
        SpeechTransition("quiet", 50 * WINDOW),
        SpeechTransition("stopped", 50 * WINDOW),
    ]


def test_a_click_is_no_speech() -> None:
    assert endpointer().hear(windows((0.0, 9), (0.9, 1), (0.1, 9), (0.9, 1), (0.0, 9))) == []


def test_two_windows_of_three_are_speech() -> None:
    (mark,) = endpointer(prefix_ms=0).hear(windows((0.0, 9), (0.9, 1), (0.4, 1), (0.9, 1)))
    assert mark == SpeechTransition("started", 9 * WINDOW)


def test_speech_begins_no_earlier_than_the_recording() -> None:
    (mark,) = endpointer().hear(windows((0.9, 3)))
    assert mark == SpeechTransition("started", 0)


def test_a_short_pause_is_taken_back() -> None:
    marks = endpointer().hear(windows((0.9, 10), (0.0, 10), (0.9, 5), (0.0, 30)))
    assert [mark.kind for mark in marks] == ["started", "quiet", "resumed", "quiet", "stopped"]
    assert marks[-1].sample == 25 * WINDOW


def test_what_is_a_little_less_probable_is_still_speech() -> None:
    marks = endpointer().hear(windows((0.9, 10), (0.4, 40)))
    assert [mark.kind for mark in marks] == ["started"]


@pytest.mark.parametrize("endpoint_ms", [10, 100, 500, 2000])
def test_the_endpoint_is_how_long_silence_lasts(endpoint_ms: int) -> None:
    hearing = endpointer(endpoint_ms=endpoint_ms)
    hearing.hear(windows((0.9, 10)))
    silent = 0
    while not any(mark.kind == "stopped" for mark in hearing.hear([0.0])):
        silent += WINDOW
    assert silent + WINDOW == max(1, -(-endpoint_ms * 16 // WINDOW)) * WINDOW


def test_after_a_reset_speech_begins_anew_and_not_before_it() -> None:
    hearing = endpointer()
    hearing.hear(windows((0.9, 10)))
    hearing.reset(10 * WINDOW + 100)
    assert hearing.hear(windows((0.9, 2))) == [SpeechTransition("started", 10 * WINDOW + 100)]


def test_utterances_follow_each_other_without_overlap() -> None:
    random = Random(3)
    marks = endpointer(endpoint_ms=100).hear([random.choice([0.0, 0.2, 0.6, 0.95]) for _ in range(5000)])
    bounds = [mark for mark in marks if mark.kind in ("started", "stopped")]
    assert len(bounds) > 20
    for before, after in zip(bounds, bounds[1:], strict=False):
        assert before.kind != after.kind
        assert before.sample <= after.sample
