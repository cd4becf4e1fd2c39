from __future__ import annotations

from random import Random

import pytest

from whisper_server.inference.audio.vad import WINDOW
from whisper_server.live.endpointing import Endpointer, SpeechTransition

RATE = 16_000


def endpointer(*, endpoint_ms: int = 500, prefix_ms: int = 300, threshold: float = 0.5) -> Endpointer:
    return Endpointer(threshold=threshold, endpoint=endpoint_ms * 16, prefix=prefix_ms * 16)


def windows(*parts: tuple[float, int]) -> list[float]:
    """As many windows of each probability as given."""
    return [probability for probability, count in parts for _ in range(count)]


def test_speech_starts_at_its_prefix_and_stops_at_its_silence() -> None:
    transitions = endpointer().update(windows((0.0, 20), (0.9, 30), (0.0, 20)))
    assert transitions == [
        SpeechTransition("started", 20 * WINDOW - 4800),
        SpeechTransition("paused", 50 * WINDOW),
        SpeechTransition("stopped", 50 * WINDOW),
    ]


def test_a_click_is_not_speech() -> None:
    assert endpointer().update(windows((0.0, 9), (0.9, 1), (0.1, 9), (0.9, 1), (0.0, 9))) == []


def test_two_windows_of_three_are_speech() -> None:
    (transition,) = endpointer(prefix_ms=0).update(windows((0.0, 9), (0.9, 1), (0.4, 1), (0.9, 1)))
    assert transition == SpeechTransition("started", 9 * WINDOW)


def test_speech_starts_no_earlier_than_the_audio() -> None:
    (transition,) = endpointer().update(windows((0.9, 3)))
    assert transition == SpeechTransition("started", 0)


def test_a_short_pause_is_resumed() -> None:
    transitions = endpointer().update(windows((0.9, 10), (0.0, 10), (0.9, 5), (0.0, 30)))
    assert [transition.kind for transition in transitions] == ["started", "paused", "resumed", "paused", "stopped"]
    assert transitions[-1].position == 25 * WINDOW


def test_speech_continues_a_little_below_the_threshold() -> None:
    transitions = endpointer().update(windows((0.9, 10), (0.4, 40)))
    assert [transition.kind for transition in transitions] == ["started"]


@pytest.mark.parametrize("endpoint_ms", [10, 100, 500, 2000])
def test_speech_stops_after_silence_of_the_endpoint(endpoint_ms: int) -> None:
    detector = endpointer(endpoint_ms=endpoint_ms)
    detector.update(windows((0.9, 10)))
    silent = 0
    while not any(transition.kind == "stopped" for transition in detector.update([0.0])):
        silent += WINDOW
    assert silent + WINDOW == max(1, -(-endpoint_ms * 16 // WINDOW)) * WINDOW


def test_after_a_reset_speech_starts_no_earlier_than_it() -> None:
    detector = endpointer()
    detector.update(windows((0.9, 10)))
    detector.reset(10 * WINDOW + 100)
    assert detector.update(windows((0.9, 2))) == [SpeechTransition("started", 10 * WINDOW + 100)]


def test_stretches_of_speech_do_not_overlap() -> None:
    random = Random(3)
    transitions = endpointer(endpoint_ms=100).update([random.choice([0.0, 0.2, 0.6, 0.95]) for _ in range(5000)])
    bounds = [transition for transition in transitions if transition.kind in ("started", "stopped")]
    assert len(bounds) > 20
    for before, after in zip(bounds, bounds[1:], strict=False):
        assert before.kind != after.kind
        assert before.position <= after.position
