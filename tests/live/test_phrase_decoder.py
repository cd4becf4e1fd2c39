from __future__ import annotations

import numpy as np
import pytest

from whisper_server.inference.transcription.streaming import AlignedWord, Hypothesis
from whisper_server.live.phrase_decoder import DecodeSchedule, PhraseDecoder, drop_fast_words
from whisper_server.live.sample_buffer import SampleBuffer
from whisper_server.live.segmenter import SpeechSegment

RATE = 16_000
SCHEDULE = DecodeSchedule()


def word(text: str, start: float, end: float, probability: float = 0.7) -> AlignedWord:
    return AlignedWord(text, start, end, probability, (1,))


def hypothesis(
    *words: AlignedWord, no_speech: float = 0.0, log_probability: float = -0.2, looping: bool = False
) -> Hypothesis:
    return Hypothesis(words, "en", 1.0, no_speech, log_probability, looping)


def decoder_of(segment: SpeechSegment | None = None) -> PhraseDecoder:
    return PhraseDecoder(SCHEDULE, segment or SpeechSegment(0))


def at(seconds: float) -> int:
    return round(seconds * RATE)


def test_windows_are_due_after_steps_of_audio() -> None:
    decoder = decoder_of()
    assert decoder.next_position(at(0.94)) is None
    assert decoder.next_position(at(0.95)) == decoder.next_position(at(1.1)) == at(0.95)
    decoder.update(hypothesis(), at(0.95))
    assert decoder.next_position(at(1.44)) is None
    assert decoder.next_position(at(1.5)) == at(1.45)


def test_a_late_step_is_longer() -> None:
    decoder = decoder_of()
    decoder.update(hypothesis(), at(0.95))
    assert decoder.next_position(at(2.22)) == at(0.95) + at(1.2)


def test_a_pause_is_decoded_once() -> None:
    segment = SpeechSegment(0)
    decoder = decoder_of(segment)
    decoder.update(hypothesis(), at(0.95))
    segment.silent_since, segment.decode_until = at(1.0), at(1.2)
    assert decoder.next_position(at(1.3)) == at(1.2)
    decoder.update(hypothesis(), at(1.2))
    assert decoder.next_position(at(1.4)) is None
    assert not decoder.finished
    segment.end = at(1.0)
    assert decoder.finished


def test_a_window_that_reached_the_pause_is_enough() -> None:
    segment = SpeechSegment(0)
    decoder = decoder_of(segment)
    decoder.update(hypothesis(), at(1.15))
    segment.silent_since, segment.decode_until, segment.end = at(1.0), at(1.2), at(1.0)
    assert decoder.finished


def test_a_flush_is_decoded_to_the_last_sample() -> None:
    segment = SpeechSegment(0)
    decoder = decoder_of(segment)
    decoder.update(hypothesis(), at(0.95))
    segment.decode_until = segment.end = at(0.97)
    assert not decoder.finished
    assert decoder.next_position(at(0.97)) == at(0.97)


def test_finishing_confirms_the_pending_words_up_to_the_end_of_speech() -> None:
    decoder = decoder_of(SpeechSegment(0, silent_since=at(1.5), decode_until=at(1.7), end=at(1.5)))
    assert decoder.update(hypothesis(word(" one", 0.2, 0.6), word(" two", 1.0, 1.7)), at(1.7)) == ()
    assert decoder.finish() == (word(" one", 0.2, 0.6), word(" two", 1.0, 1.5))


@pytest.mark.parametrize(
    "hallucination",
    [
        hypothesis(word(" Thank", 0, 1), word(" you", 1, 2), no_speech=0.9, log_probability=-1.5),
        hypothesis(*(word(" la", 0.1 * n, 0.1 * n + 0.1) for n in range(9)), looping=True),
    ],
    ids=["no speech", "a loop"],
)
def test_hallucinations_are_dropped(hallucination: Hypothesis) -> None:
    decoder = decoder_of(SpeechSegment(0, decode_until=at(2), end=at(2)))
    assert decoder.update(hallucination, at(2)) == ()
    assert decoder.finish() == ()


def test_a_loop_keeps_the_pending_words() -> None:
    decoder = decoder_of()
    decoder.update(hypothesis(word(" one", 0.2, 0.6)), at(0.95))
    decoder.update(hypothesis(word(" one", 0.2, 0.6), looping=True), at(1.45))
    assert [pending.text for pending in decoder.pending] == [" one"]


def test_words_faster_than_speech_are_dropped() -> None:
    real_words = [word(" so", 0.2, 0.5), word(" it", 0.5, 0.6), word(" is", 0.6, 0.7)]
    echo = [word(" so", 0.8, 0.8), word(" it", 0.8, 0.82), word(" is", 0.82, 0.84)]
    assert drop_fast_words([*real_words, *echo]) == real_words
    assert drop_fast_words(real_words) == real_words


def test_nothing_is_confirmed_without_confirm() -> None:
    decoder = decoder_of()
    words = [word(f" {n}", n / 4, n / 4 + 0.25, 0.99) for n in range(8)]
    assert decoder.update(hypothesis(*words), at(3), confirm=False) == ()
    assert decoder.update(hypothesis(*words), at(3.5)) != ()


def test_words_that_hypotheses_never_agree_on_are_confirmed_in_the_end() -> None:
    decoder = decoder_of()
    confirmed: list[AlignedWord] = []
    for step in range(40):
        confirmed += decoder.update(hypothesis(word(f" {step}", 0.5, 0.9), word(" a", 1.0, 1.2)), at(1 + step / 2))
    assert confirmed


@pytest.mark.parametrize("words", [0, 1, 2, 200])
def test_no_window_is_longer_than_the_maximum(words: int) -> None:
    buffer = SampleBuffer()
    buffer.append(np.zeros(at(90), np.float32))
    decoder = decoder_of()
    while (position := decoder.next_position(at(80))) is not None:
        window = decoder.window(buffer, position, language=None, prompt="")
        assert len(window.samples) <= at(SCHEDULE.max_window)
        decoder.update(hypothesis(*(word(f" {n}", n * 0.4, n * 0.4 + 0.4) for n in range(words))), position)
        if position >= at(79):
            break
    assert position is not None


def test_a_window_is_trimmed_after_a_sentence() -> None:
    decoder = decoder_of()
    texts = [" One", " two", " three.", " Four", " five", " six", " seven", " eight", " nine", " ten", " or", " so"]
    words = [word(text, 0.7 * n, 0.7 * n + 0.7, 0.99) for n, text in enumerate(texts)]
    decoder.update(hypothesis(*words), at(8.4))
    assert decoder.window_start == at(2.1)


def test_speech_without_a_pause_is_split_after_the_confirmed_words() -> None:
    decoder = decoder_of()
    assert decoder.split() is None
    words = [word(f" {n}", n / 2, n / 2 + 0.5, 0.99) for n in range(6)]
    confirmed = decoder.update(hypothesis(*words), at(3))
    assert decoder.split() == at(confirmed[-1].end)
    assert decoder.finish() == ()
