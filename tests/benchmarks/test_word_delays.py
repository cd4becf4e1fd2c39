from __future__ import annotations

from typing import Any

import pytest

from benchmarks.live.word_delays import (
    ConfirmedWord,
    OfflineWord,
    StreamTranscript,
    read_messages,
    summarise,
    word_delays,
)


def partial(confirmed: str, pending: str = "", audio: float = 1.0) -> dict[str, Any]:
    return {"type": "partial", "words": words(confirmed), "pending": pending, "audio": audio}


def final(text: str, audio: float = 3.0) -> dict[str, Any]:
    return {"type": "final", "words": words(text), "audio": audio}


def words(text: str) -> list[dict[str, Any]]:
    return [{"word": f" {word}", "end": 1.0 + n} for n, word in enumerate(text.split())]


def test_a_word_has_the_time_of_its_confirmation() -> None:
    transcript = read_messages(
        [
            (0.5, {"type": "speech", "t": 0.1}),
            (1.4, partial("", "so my", 1.0)),
            (2.0, partial("so", "my fellow", 1.5)),
            (3.5, final("so my fellow")),
            (9.0, {"type": "lag", "seconds": 4}),
        ]
    )
    assert transcript.words == [
        ConfirmedWord(" so", 2.0, 1.5),
        ConfirmedWord(" my", 3.5, 3.0),
        ConfirmedWord(" fellow", 3.5, 3.0),
    ]
    assert transcript.first_partials == [pytest.approx(1.0)]
    assert transcript.finals == [pytest.approx(0.5)]
    assert (transcript.revisions, transcript.lags, transcript.text) == (0, 1, " so my fellow")


def test_a_changed_word_is_a_revision() -> None:
    messages = [(1.0, partial("so am")), (2.0, partial("so my fellow")), (3.0, final("so my fellow"))]
    assert read_messages(messages).revisions == 1


def test_a_new_utterance_is_not_a_revision() -> None:
    transcript = read_messages([(1.0, final("one two")), (2.0, partial("three")), (3.0, final("three four"))])
    assert transcript.revisions == 0
    assert transcript.text == " one two three four"


def test_delays_are_of_words_in_both_transcripts() -> None:
    offline = [OfflineWord(" So,", 0.5), OfflineWord(" my", 1.0), OfflineWord(" fellow", 1.5)]
    transcript = StreamTranscript(
        [ConfirmedWord(" so", 1.5, 1.2), ConfirmedWord(" your", 2.0, 1.7), ConfirmedWord(" fellow", 1.4, 1.7)]
    )
    aware, unaware = word_delays(transcript, offline)
    assert aware == [pytest.approx(1.0), 0.0]
    assert unaware == [pytest.approx(0.7), pytest.approx(0.2)]


def test_a_stretched_word_ends_after_a_second() -> None:
    assert OfflineWord.from_json({"word": "ask", "start": 2.0, "end": 4.0}).end == 3.0


def test_the_summary_of_streams() -> None:
    transcript = StreamTranscript([ConfirmedWord(" so", 1.5, 1.2), ConfirmedWord(" me", 2.0, 1.7)])
    row = summarise([transcript, transcript], [OfflineWord(" so", 0.5), OfflineWord(" my", 1.0)], "so my")
    assert (row["words"], row["delay_mean"], row["unaware_mean"]) == (2, 1.0, 0.7)
    assert (row["wer"], row["wer_offline"], row["against_offline"]) == (50.0, 0.0, 50.0)
    assert row["first_p50"] is None
