from __future__ import annotations

from longform import kept, summarise


def test_a_word_is_kept_if_it_comes_in_the_same_order() -> None:
    assert kept(["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "on", "a", "mat"]) == 4


def test_the_first_side_is_what_others_are_compared_with() -> None:
    found = {"a": [(4.0, "one two"), (6.0, "one two")], "b": [(2.0, "One two."), (2.0, "One two.")]}
    rows = summarise(found, "one two three")
    assert [(row["seconds"], row["ratio"], row["kept"], row["wer"]) for row in rows] == [
        (5.0, 1.0, 100.0, 33.33),
        (2.0, 2.5, 100.0, 33.33),
    ]
