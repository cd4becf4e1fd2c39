from __future__ import annotations

from whisper_server.inference.transcription.streaming import AlignedWord
from whisper_server.live.local_agreement import ConfirmationPolicy, LocalAgreement, common_prefix_length, normalise

POLICY = ConfirmationPolicy(agreed_age=0.3, likely=0.9, likely_age=0.9, behind_age=1.0)


def hypothesis(text: str, *, probability: float = 0.6, start: float = 0.0) -> list[AlignedWord]:
    """One word every half second."""
    parts = text.split()
    return [AlignedWord(" " + p, start + i / 2, start + i / 2 + 0.5, probability, (i,)) for i, p in enumerate(parts)]


def text_of(words: object) -> str:
    return "".join(word.text for word in words)  # type: ignore[attr-defined]


def test_words_are_confirmed_when_two_hypotheses_agree() -> None:
    agreement = LocalAgreement(POLICY)
    assert agreement.update(hypothesis("so my fellow"), 1.5) == ()
    confirmed = agreement.update(hypothesis("So my fellow, Americans ask"), 2.5)
    assert text_of(confirmed) == " So my fellow,"
    assert text_of(agreement.pending) == " Americans ask"


def test_the_newest_hypothesis_gives_the_spelling() -> None:
    agreement = LocalAgreement(POLICY)
    agreement.update(hypothesis("printing in the"), 1.5)
    assert text_of(agreement.update(hypothesis("Printing, in the only"), 2.0)) == " Printing, in the"


def test_confirmation_stops_at_the_first_disagreement() -> None:
    agreement = LocalAgreement(POLICY)
    agreement.update(hypothesis("the wood cutters of the"), 2.5)
    assert text_of(agreement.update(hypothesis("the woodcutters of the nether lands"), 3.0)) == " the"


def test_the_last_word_and_recent_words_stay_pending() -> None:
    agreement = LocalAgreement(POLICY)
    agreement.update(hypothesis("one two three"), 1.5)
    assert text_of(agreement.update(hypothesis("one two three"), 1.2)) == " one"
    assert text_of(agreement.update(hypothesis("three"), 9.0)) == ""


def test_a_likely_word_needs_one_hypothesis() -> None:
    agreement = LocalAgreement(POLICY)
    assert text_of(agreement.update(hypothesis("one two three", probability=0.95), 1.45)) == " one"
    assert text_of(LocalAgreement(POLICY).update(hypothesis("one two three", probability=0.8), 9.0)) == ""


def test_an_unlikely_word_waits_longer() -> None:
    agreement = LocalAgreement(POLICY)
    for now, confirmed in ((1.5, ""), (1.65, ""), (1.75, " one")):
        assert text_of(agreement.update(hypothesis("one two three", probability=0.4), now)) == confirmed


def test_a_server_that_is_behind_needs_one_hypothesis() -> None:
    assert text_of(LocalAgreement(POLICY).update(hypothesis("one two three"), 2.1, behind=True)) == " one two"


def test_taken_words_are_not_pending() -> None:
    agreement = LocalAgreement(POLICY)
    agreement.update(hypothesis("one two three"), 1.5)
    assert text_of(agreement.take(2)) == " one two"
    assert text_of(agreement.pending) == " three"


def test_case_and_punctuation_do_not_matter() -> None:
    assert normalise(" Hello,") == normalise(" hello") == "hello"
    assert normalise(" „Hallo“ ".replace("„", "“")) == "hallo"
    assert normalise(" don't") == "don't"
    assert common_prefix_length(hypothesis("a b c"), hypothesis("A, b. d")) == 2
