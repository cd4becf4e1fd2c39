"""When each word of a known text is spoken in a file.

The file is transcribed first, which tells about where the words are at any length, also if the text has parts that are
not spoken or lacks some that are. Then each window of the audio is aligned with the text's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from whisper_server.inference.alignment.placement import HeardWord, PlacedWord, place_words
from whisper_server.inference.alignment.text import SegmentUnit, TextWord, encode, split_segments, split_words
from whisper_server.inference.alignment.voice import VoiceMap
from whisper_server.inference.alignment.windows import Window, plan_windows
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples, Waveform
from whisper_server.inference.request_context import AGEING_SECONDS, RequestContext
from whisper_server.inference.runtime import adaptive_window
from whisper_server.inference.transcription.sequential import Transcript

# What `transcribe()` needs for the transcript to align with. Without previous text, an error does not repeat itself.
TRANSCRIPTION_OPTIONS: Mapping[str, Any] = {"word_timestamps": True, "condition_on_previous_text": False}

_TASK = "transcribe"
_MEDIAN_FILTER_WIDTH = 7  # frames, as in openai-whisper
_FRAMES_PER_SECOND = 50
_HOP = 160  # samples in a mel frame
_MIN_SAMPLES = 1600  # 0.1 s; `align` needs a few frames

# The start and end of a word in seconds, and its probability.
_Timing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TimedWord:
    """`text` has the space before the word. Times are in seconds; a word that is not spoken has none."""

    text: str
    start: float | None
    end: float | None
    probability: float


@dataclass(frozen=True, slots=True)
class TimedSegment:
    """A sentence or line of the text. One of which no word is spoken has no times."""

    text: str
    words: Sequence[TimedWord]

    @property
    def start(self) -> float | None:
        return next((word.start for word in self.words if word.start is not None), None)

    @property
    def end(self) -> float | None:
        return next((word.end for word in reversed(self.words) if word.end is not None), None)

    @property
    def probability(self) -> float:
        """The average of the words."""
        return sum(word.probability for word in self.words) / max(1, len(self.words))


@dataclass(frozen=True, slots=True)
class Alignment:
    """`language` is the code of the language spoken, `duration` the length of the audio in seconds."""

    text: str
    segments: Sequence[TimedSegment]
    language: str
    duration: float


class Aligner:
    """Aligns texts with one file; `whisper_for` returns a model for a part of the request.

    Up to `concurrency` windows are aligned at a time. All methods raise Cancelled, EngineFailed or OutOfMemory.
    """

    def __init__(
        self,
        whisper_for: Callable[[RequestContext], WhisperModel],
        context: RequestContext,
        audio: Waveform,
        *,
        concurrency: int = 1,
    ) -> None:
        self._whisper_for = whisper_for
        self._context = context
        self._audio = audio
        self._duration = len(audio) / SAMPLE_RATE
        self._concurrency = concurrency

    def align(self, text: str, transcript: Transcript, unit: SegmentUnit) -> Alignment:
        """Return the times of the text's words; `transcript` is that of the audio, with word timestamps."""
        whisper = self._whisper_for(self._context)
        tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, _TASK, transcript.language)
        segments = split_segments(text, unit)
        words = split_words(segments, tokenizer)
        heard = _heard_words(transcript, tokenizer)
        voice = VoiceMap(self._audio, self._context.check)
        placed = place_words(words, heard, voice, self._duration, self._context.check)
        timings = self._time_words(words, placed, tokenizer)
        timed = _in_order(words, timings, voice, self._duration)
        by_segment = {number: list(group) for number, group in groupby(range(len(words)), lambda i: words[i].segment)}
        return Alignment(
            text.strip(),
            [TimedSegment(segment, [timed[i] for i in by_segment.get(n, [])]) for n, segment in enumerate(segments)],
            transcript.language,
            self._duration,
        )

    def _time_words(
        self, words: Sequence[TextWord], placed: Sequence[PlacedWord], tokenizer: Tokenizer
    ) -> dict[int, _Timing]:
        """Return the timing of each word of the text that is spoken, by its number."""

        def run(number: int, window: Window) -> dict[int, _Timing]:
            self._context.check()
            # Later windows are less urgent, so that other requests get in between.
            delay = min(number, self._concurrency - 1) * AGEING_SECONDS
            whisper = self._whisper_for(self._context.child(delay=delay))
            samples = self._audio[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)]
            return _time_window(whisper, tokenizer, samples, words, placed, window)

        with ThreadPoolExecutor(self._concurrency, "align") as pool:
            windows = plan_windows(placed, self._duration)
            # Copied contexts carry the request's id to its log lines.
            futures = [pool.submit(copy_context().run, run, number, window) for number, window in enumerate(windows)]
            return {number: timing for future in futures for number, timing in future.result().items()}


def long_enough(audio: Waveform) -> Waveform:
    """Return the audio with silence after it if it is too short for the word timestamps of a transcript."""
    return np.pad(audio[:], (0, _MIN_SAMPLES - len(audio))) if len(audio) < _MIN_SAMPLES else audio


def _heard_words(transcript: Transcript, tokenizer: Tokenizer) -> list[HeardWord]:
    words = (word for segment in transcript.segments for word in segment.words or ())
    return [HeardWord(word.text, tuple(encode(tokenizer, word.text)), word.start, word.end) for word in words]


def _time_window(
    whisper: WhisperModel,
    tokenizer: Tokenizer,
    samples: Samples,
    words: Sequence[TextWord],
    placed: Sequence[PlacedWord],
    window: Window,
) -> dict[int, _Timing]:
    """Return the timings of the window's used words of the text."""
    tokens = [token for word in placed[window.first : window.stop] for token in word.tokens]
    times, probabilities = _align_tokens(whisper, tokenizer, samples, tokens)
    timings: dict[int, _Timing] = {}
    position = 0
    for i in range(window.first, window.stop):
        if i in window.used and placed[i].number >= 0:
            first, last = (position + index for index in words[placed[i].number].spoken)
            probability = float(np.mean(probabilities[first:last]))
            timings[placed[i].number] = (window.start + times[first], window.start + times[last], probability)
        position += len(placed[i].tokens)
    return timings


def _align_tokens(
    whisper: WhisperModel, tokenizer: Tokenizer, samples: Samples, tokens: list[int]
) -> tuple[list[float], list[float]]:
    """Return the seconds at which each token starts, and at last the end; and the probability of each token."""
    samples = long_enough(samples)[:]
    features = whisper.feature_extractor(samples)[:, : len(samples) // _HOP]
    frames = features.shape[1]
    window = np.zeros((1, features.shape[0], adaptive_window.FULL), np.float32)
    window[0, :, :frames] = features
    output = whisper.model.encode(StorageView.from_array(window))
    start = tokenizer.sot_sequence
    (result,) = whisper.model.align(output, start, [tokens], frames, median_filter_width=_MEDIAN_FILTER_WIDTH)
    # The alignment is a path of (token, frame) pairs; a token starts where its first pair is.
    starts = dict(reversed(result.alignments))
    return [starts[i] / _FRAMES_PER_SECOND for i in range(len(tokens) + 1)], list(result.text_token_probs)


def _in_order(
    words: Sequence[TextWord], timings: Mapping[int, _Timing], voice: VoiceMap, duration: float
) -> list[TimedWord]:
    """Return all words of the text, each with the part of its time in which it is spoken."""
    # Two windows may disagree about where the last word of one ends and the first of the other starts.
    limits = {number: timings[following][0] for number, following in pairwise(sorted(timings))}
    timed: list[TimedWord] = []
    previous = 0.0
    for number, word in enumerate(words):
        if number not in timings:
            timed.append(TimedWord(word.text, None, None, 0.0))
            continue
        start, end, probability = timings[number]
        start, end = voice.without_pauses(start, max(start, min(end, limits.get(number, duration))))
        start = round(max(previous, min(start, duration)), 2)
        previous = round(max(start, end), 2)
        timed.append(TimedWord(word.text, start, previous, probability))
    return timed
