from __future__ import annotations

from benchmarks.transcription.long_file import count_kept, summarise


def test_words_in_the_same_order_are_kept() -> None:
    assert count_kept(["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "on", "a", "mat"]) == 4


def test_the_first_system_is_the_baseline() -> None:
    runs = {"a": [(4.0, "one two"), (6.0, "one two")], "b": [(2.0, "One two."), (2.0, "One two.")]}
    rows = summarise(runs, "one two three")
    assert [(row["seconds"], row["ratio"], row["kept"], row["wer"]) for row in rows] == [
        (5.0, 1.0, 100.0, 33.33),
        (2.0, 2.5, 100.0, 33.33),
    ]
