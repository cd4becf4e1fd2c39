from __future__ import annotations

from whisper_server.inference.transcription.streaming import AlignedWord
from whisper_server.live.local_agreement import ConfirmationPolicy, LocalAgreement, common, normalised

CAUTION = ConfirmationPolicy(hold=0.3, sure=0.9, sure_hold=0.9, behind_hold=1.0)


def said(text: str, *, probability: float = 0.6, start: float = 0.0) -> list[AlignedWord]:
    """A word every half second."""
    parts = text.split()
    return [AlignedWord(" " + p, start + i / 2, start + i / 2 + 0.5, probability, (i,)) for i, p in enumerate(parts)]


def text_of(words: object) -> str:
    return "".join(word.text for word in words)  # type: ignore[attr-defined]


def test_words_are_certain_when_two_hearings_agree() -> None:
    agreement = LocalAgreement(CAUTION)
    assert agreement.update(said("so my fellow"), 1.5) == ()
    certain = agreement.update(said("So my fellow, Americans ask"), 2.5)
    assert text_of(certain) == " So my fellow,"
    assert text_of(agreement.pending) == " Americans ask"


def test_the_newest_hearing_is_what_is_written() -> None:
    agreement = LocalAgreement(CAUTION)
    agreement.update(said("printing in the"), 1.5)
    assert text_of(agreement.update(said("Printing, in the only"), 2.0)) == " Printing, in the"


def test_a_disagreement_stops_at_the_word() -> None:
    agreement = LocalAgreement(CAUTION)
    agreement.update(said("the wood cutters of the"), 2.5)
    assert text_of(agreement.update(said("the woodcutters of the nether lands"), 3.0)) == " the"


def test_the_last_word_and_the_youngest_wait() -> None:
    agreement = LocalAgreement(CAUTION)
    agreement.update(said("one two three"), 1.5)
    assert text_of(agreement.update(said("one two three"), 1.2)) == " one"
    assert text_of(agreement.update(said("three"), 9.0)) == ""


def test_a_probable_word_needs_one_hearing() -> None:
    agreement = LocalAgreement(CAUTION)
    assert text_of(agreement.update(said("one two three", probability=0.95), 1.45)) == " one"
    assert text_of(LocalAgreement(CAUTION).update(said("one two three", probability=0.8), 9.0)) == ""


def test_an_improbable_word_waits_for_longer() -> None:
    agreement = LocalAgreement(CAUTION)
    for now, certain in ((1.5, ""), (1.65, ""), (1.75, " one")):
        assert text_of(agreement.update(said("one two three", probability=0.4), now)) == certain


def test_a_server_that_is_behind_needs_one_hearing() -> None:
    assert text_of(LocalAgreement(CAUTION).update(said("one two three"), 2.1, behind=True)) == " one two"


def test_what_is_taken_is_not_pending() -> None:
    agreement = LocalAgreement(CAUTION)
    agreement.update(said("one two three"), 1.5)
    assert text_of(agreement.take(2)) == " one two"
    assert text_of(agreement.pending) == " three"


def test_case_and_signs_do_not_matter() -> None:
    assert normalised(" Hello,") == normalised(" hello") == "hello"
    assert normalised(" „Hallo“ ".replace("„", "“")) == "hallo"
    assert normalised(" don't") == "don't"
    assert common(said("a b c"), said("A, b. d")) == 2
