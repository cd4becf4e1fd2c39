from __future__ import annotations

from typing import Any

import pytest
from delays import Confirmed, Hypothesis, Said, delays, describe, heard


def partial(confirmed: str, pending: str = "", audio: float = 1.0) -> dict[str, Any]:
    return {"type": "partial", "words": words(confirmed), "pending": pending, "audio": audio}


def final(text: str, audio: float = 3.0) -> dict[str, Any]:
    return {"type": "final", "words": words(text), "audio": audio}


def words(text: str) -> list[dict[str, Any]]:
    return [{"word": f" {word}", "end": 1.0 + n} for n, word in enumerate(text.split())]


def test_words_count_when_they_are_confirmed() -> None:
    found = heard(
        [
            (0.5, {"type": "speech", "t": 0.1}),
            (1.4, partial("", "so my", 1.0)),
            (2.0, partial("so", "my fellow", 1.5)),
            (3.5, final("so my fellow")),
            (9.0, {"type": "lag", "seconds": 4}),
        ]
    )
    assert found.words == [
        Confirmed(" so", 2.0, 1.5),
        Confirmed(" my", 3.5, 3.0),
        Confirmed(" fellow", 3.5, 3.0),
    ]
    assert found.first_partials == [pytest.approx(1.0)]
    assert found.finals == [pytest.approx(0.5)]
    assert (found.revisions, found.lags, found.text) == (0, 1, " so my fellow")


def test_a_changed_word_is_a_revision() -> None:
    messages = [(1.0, partial("so am")), (2.0, partial("so my fellow")), (3.0, final("so my fellow"))]
    assert heard(messages).revisions == 1


def test_utterances_begin_anew() -> None:
    found = heard([(1.0, final("one two")), (2.0, partial("three")), (3.0, final("three four"))])
    assert found.revisions == 0
    assert found.text == " one two three four"


def test_delays_are_of_the_words_that_both_have() -> None:
    said = [Said(" So,", 0.5), Said(" my", 1.0), Said(" fellow", 1.5)]
    found = Hypothesis([Confirmed(" so", 1.5, 1.2), Confirmed(" your", 2.0, 1.7), Confirmed(" fellow", 1.4, 1.7)])
    by_clock, by_audio = delays(found, said)
    assert by_clock == [pytest.approx(1.0), 0.0]
    assert by_audio == [pytest.approx(0.7), pytest.approx(0.2)]


def test_a_stretched_word_ends_within_a_second() -> None:
    assert Said.of({"word": "ask", "start": 2.0, "end": 4.0}).end == 3.0


def test_the_description_of_streams() -> None:
    found = Hypothesis([Confirmed(" so", 1.5, 1.2), Confirmed(" me", 2.0, 1.7)])
    row = describe([found, found], [Said(" so", 0.5), Said(" my", 1.0)], "so my")
    assert (row["words"], row["delay_mean"], row["unaware_mean"]) == (2, 1.0, 0.7)
    assert (row["wer"], row["wer_offline"], row["against_offline"]) == (50.0, 0.0, 50.0)
    assert row["first_p50"] is None
