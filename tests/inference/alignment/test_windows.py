from __future__ import annotations

from random import Random

import pytest

from whisper_server.inference.alignment.placement import PlacedWord
from whisper_server.inference.alignment.windows import Window, plan_windows


def words_at(*spans: tuple[float, float], tokens: int = 1) -> list[PlacedWord]:
    return [PlacedWord((0,) * tokens, start, end, number) for number, (start, end) in enumerate(spans)]


def check(windows: list[Window], words: list[PlacedWord]) -> None:
    """Each word is used once, and every window has its words and at most 30 s and 400 tokens."""
    assert [number for window in windows for number in window.used] == list(range(len(words)))
    for window in windows:
        assert window.first <= window.used.start and window.used.stop <= window.stop
        assert window.end - window.start <= 30.001
        assert window.start <= words[window.used.start].start
        assert sum(len(word.tokens) for word in words[window.first : window.stop]) <= 400


def test_a_short_file_is_one_window() -> None:
    assert list(plan_windows(words_at((3, 4), (4, 5)), 29.0)) == [Window(0.0, 29.0, 0, 2, range(2))]


def test_there_is_nothing_to_align_without_words() -> None:
    assert list(plan_windows([], 10.0)) == list(plan_windows([], 100.0)) == []


def test_a_window_ends_in_the_longest_pause_and_has_words_of_its_neighbours() -> None:
    words = words_at(*((i, i + 0.9) for i in range(22)), *((i + 1, i + 1.9) for i in range(22, 40)))
    first, second = plan_windows(words, 50.0)
    check([first, second], words)
    assert first.used == range(22)
    assert (first.stop, second.first) == (25, 19)


def test_windows_skip_silence() -> None:
    words = words_at((100, 101), (500, 501))
    first, second = plan_windows(words, 1000.0)
    assert (first.start, first.end) == (99, 102)
    assert (second.start, second.end) == (499, 502)


@pytest.mark.parametrize("tokens", [1, 20, 200])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 8.0, 40.0])
def test_any_words_get_windows(seconds: float, tokens: int) -> None:
    random, time, spans = Random(1), 0.0, []
    for _ in range(300):
        end = time + random.uniform(0, seconds)
        spans.append((time, end))
        time = end + random.choice((0.0, 0.0, 0.5))
    words = words_at(*spans, tokens=tokens)
    check(list(plan_windows(words, max(31.0, time))), words)
