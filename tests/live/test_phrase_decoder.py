from __future__ import annotations

import numpy as np
import pytest

from whisper_server.inference.transcription.streaming import AlignedWord, Hypothesis
from whisper_server.live.phrase_decoder import DecodeSchedule, PhraseDecoder, pronounceable
from whisper_server.live.sample_buffer import SampleBuffer
from whisper_server.live.segmenter import SpeechSegment

RATE = 16_000
PACE = DecodeSchedule()


def word(text: str, start: float, end: float, probability: float = 0.7) -> AlignedWord:
    return AlignedWord(text, start, end, probability, (1,))


def heard(
    *words: AlignedWord, no_speech: float = 0.0, log_probability: float = -0.2, looping: bool = False
) -> Hypothesis:
    return Hypothesis(words, "en", 1.0, no_speech, log_probability, looping)


def scribe(phrase: SpeechSegment | None = None) -> PhraseDecoder:
    return PhraseDecoder(PACE, phrase or SpeechSegment(0))


def at(seconds: float) -> int:
    return round(seconds * RATE)


def test_the_pace_is_that_of_the_audio() -> None:
    writer = scribe()
    assert writer.due(at(0.94)) is None
    assert writer.due(at(0.95)) == writer.due(at(1.1)) == at(0.95)
    writer.take(heard(), at(0.95))
    assert writer.due(at(1.44)) is None
    assert writer.due(at(1.5)) == at(1.45)


def test_a_late_step_is_a_longer_one() -> None:
    writer = scribe()
    writer.take(heard(), at(0.95))
    assert writer.due(at(2.22)) == at(0.95) + at(1.2)


def test_a_pause_is_decoded_once() -> None:
    phrase = SpeechSegment(0)
    writer = scribe(phrase)
    writer.take(heard(), at(0.95))
    phrase.quiet, phrase.sound_end = at(1.0), at(1.2)
    assert writer.due(at(1.3)) == at(1.2)
    writer.take(heard(), at(1.2))
    assert writer.due(at(1.4)) is None
    assert not writer.finished
    phrase.end = at(1.0)
    assert writer.finished


def test_a_step_that_met_the_pause_is_enough() -> None:
    phrase = SpeechSegment(0)
    writer = scribe(phrase)
    writer.take(heard(), at(1.15))
    phrase.quiet, phrase.sound_end, phrase.end = at(1.0), at(1.2), at(1.0)
    assert writer.finished


def test_a_flush_is_decoded_to_the_last_sample() -> None:
    phrase = SpeechSegment(0)
    writer = scribe(phrase)
    writer.take(heard(), at(0.95))
    phrase.sound_end = phrase.end = at(0.97)
    assert not writer.finished
    assert writer.due(at(0.97)) == at(0.97)


def test_the_rest_is_certain_at_the_end_and_ends_with_the_speech() -> None:
    writer = scribe(SpeechSegment(0, quiet=at(1.5), sound_end=at(1.7), end=at(1.5)))
    assert writer.take(heard(word(" one", 0.2, 0.6), word(" two", 1.0, 1.7)), at(1.7)) == ()
    assert writer.finish() == (word(" one", 0.2, 0.6), word(" two", 1.0, 1.5))


@pytest.mark.parametrize(
    "nothing",
    [
        heard(word(" Thank", 0, 1), word(" you", 1, 2), no_speech=0.9, log_probability=-1.5),
        heard(*(word(" la", 0.1 * n, 0.1 * n + 0.1) for n in range(9)), looping=True),
    ],
    ids=["no speech", "a loop"],
)
def test_what_is_made_up_is_left_out(nothing: Hypothesis) -> None:
    writer = scribe(SpeechSegment(0, sound_end=at(2), end=at(2)))
    assert writer.take(nothing, at(2)) == ()
    assert writer.finish() == ()


def test_a_loop_does_not_forget_what_was_heard_before() -> None:
    writer = scribe()
    writer.take(heard(word(" one", 0.2, 0.6)), at(0.95))
    writer.take(heard(word(" one", 0.2, 0.6), looping=True), at(1.45))
    assert [pending.text for pending in writer.pending] == [" one"]


def test_words_faster_than_speech_are_made_up() -> None:
    spoken = [word(" so", 0.2, 0.5), word(" it", 0.5, 0.6), word(" is", 0.6, 0.7)]
    echo = [word(" so", 0.8, 0.8), word(" it", 0.8, 0.82), word(" is", 0.82, 0.84)]
    assert pronounceable([*spoken, *echo]) == spoken
    assert pronounceable(spoken) == spoken


def test_in_a_preview_nothing_is_certain() -> None:
    writer = scribe()
    words = [word(f" {n}", n / 4, n / 4 + 0.25, 0.99) for n in range(8)]
    assert writer.take(heard(*words), at(3), preview=True) == ()
    assert writer.take(heard(*words), at(3.5)) != ()


def test_what_is_never_agreed_on_is_taken_in_the_end() -> None:
    writer = scribe()
    taken = []
    for step in range(40):
        taken += writer.take(heard(word(f" {step}", 0.5, 0.9), word(" a", 1.0, 1.2)), at(1 + step / 2))
    assert taken


@pytest.mark.parametrize("words", [0, 1, 2, 200])
def test_no_window_is_long_whatever_is_heard(words: int) -> None:
    buffer = SampleBuffer()
    buffer.append(np.zeros(at(90), np.float32))
    writer = scribe()
    while (position := writer.due(at(80))) is not None:
        passage = writer.passage(buffer, position, language=None, prompt="")
        assert len(passage.samples) <= at(PACE.longest)
        writer.take(heard(*(word(f" {n}", n * 0.4, n * 0.4 + 0.4) for n in range(words))), position)
        if position >= at(79):
            break
    assert position is not None


def test_a_window_is_cut_after_a_sentence() -> None:
    writer = scribe()
    texts = [" One", " two", " three.", " Four", " five", " six", " seven", " eight", " nine", " ten", " or", " so"]
    words = [word(text, 0.7 * n, 0.7 * n + 0.7, 0.99) for n, text in enumerate(texts)]
    writer.take(heard(*words), at(8.4))
    assert writer.needed == at(2.1)


def test_speech_without_a_pause_is_split_after_what_is_certain() -> None:
    writer = scribe()
    assert writer.split() is None
    words = [word(f" {n}", n / 2, n / 2 + 0.5, 0.99) for n in range(6)]
    certain = writer.take(heard(*words), at(3))
    assert writer.split() == at(certain[-1].end)
    assert writer.finish() == ()
