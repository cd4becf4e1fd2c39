"""How late the words of a live stream are: its messages and their times, compared with an offline transcript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from benchmarks.speech.word_error_rate import error_rate, normalise

# Word alignment stretches the words before and after a pause into it.
_LONGEST_WORD = 1.0


@dataclass(frozen=True, slots=True)
class OfflineWord:
    """A word of the offline transcript and its end in the audio, in seconds."""

    text: str
    end: float

    @classmethod
    def from_json(cls, word: Mapping[str, Any]) -> OfflineWord:
        return cls(word["word"], min(word["end"], word["start"] + _LONGEST_WORD))


@dataclass(frozen=True, slots=True)
class ConfirmedWord:
    """`time` is when the word was confirmed, `audio` how much had been decoded; both in seconds of the stream."""

    text: str
    time: float
    audio: float


@dataclass
class StreamTranscript:
    """The result of one stream. All times are in seconds.

    `first_partials` are from the start of an utterance to its first text, `finals` from the end of its last word to its
    final text.
    """

    words: list[ConfirmedWord] = field(default_factory=list)
    first_partials: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    revisions: int = 0
    lags: int = 0

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words)


def read_messages(messages: Iterable[tuple[float, Mapping[str, Any]]], prefix: float = 0.3) -> StreamTranscript:
    """Evaluate the messages of one stream. An utterance includes `prefix` seconds before its speech."""
    transcript = StreamTranscript()
    confirmed: list[str] = []
    onset: float | None = None
    for time, message in messages:
        kind = message["type"]
        if kind == "speech":
            onset = message["t"] + prefix
        elif kind == "lag":
            transcript.lags += 1
        elif kind in ("partial", "final"):
            words = [word["word"] for word in message["words"]]
            transcript.revisions += words[: len(confirmed)] != confirmed
            transcript.words += [ConfirmedWord(word, time, message["audio"]) for word in words[len(confirmed) :]]
            confirmed = words
            if onset is not None and (words or message.get("pending")):
                transcript.first_partials.append(time - onset)
                onset = None
        if kind == "final":
            if confirmed:
                transcript.finals.append(time - message["words"][-1]["end"])
            confirmed, onset = [], None
    return transcript


def word_delays(transcript: StreamTranscript, offline: Sequence[OfflineWord]) -> tuple[list[float], list[float]]:
    """For each word that both transcripts have, the seconds from its end to its confirmation.

    Returned by the clock ("computation-aware") and by the decoded audio ("computation-unaware").
    """
    live_words = [(text, word) for word in transcript.words for text in normalise(word.text)]
    offline_words = [(text, word) for word in offline for text in normalise(word.text)]
    live_texts, offline_texts = [text for text, _ in live_words], [text for text, _ in offline_words]
    aware: list[float] = []
    unaware: list[float] = []
    for block in SequenceMatcher(None, live_texts, offline_texts, autojunk=False).get_matching_blocks():
        for at in range(block.size):
            word, end = live_words[block.a + at][1], offline_words[block.b + at][1].end
            aware.append(max(0.0, word.time - end))
            unaware.append(max(0.0, word.audio - end))
    return aware, unaware


def summarise(
    transcripts: Sequence[StreamTranscript], offline: Sequence[OfflineWord], reference: str
) -> dict[str, Any]:
    """Figures of several streams of the same audio; error rates are in percent."""
    offline_text = "".join(word.text for word in offline)
    pairs = [word_delays(transcript, offline) for transcript in transcripts]
    aware = [delay for delays, _ in pairs for delay in delays]
    unaware = [delay for _, delays in pairs for delay in delays]
    first_partials = [time for transcript in transcripts for time in transcript.first_partials]
    finals = [time for transcript in transcripts for time in transcript.finals]
    return {
        "words": len(aware),
        "delay_mean": _mean(aware),
        "delay_p50": _percentile(aware, 50),
        "delay_p95": _percentile(aware, 95),
        "unaware_mean": _mean(unaware),
        "first_p50": _percentile(first_partials, 50),
        "first_p95": _percentile(first_partials, 95),
        "final_p50": _percentile(finals, 50),
        "final_p95": _percentile(finals, 95),
        "revisions": sum(transcript.revisions for transcript in transcripts),
        "lags": sum(transcript.lags for transcript in transcripts),
        "wer": mean_error_rate(reference, transcripts),
        "wer_offline": error_rate(reference, offline_text),
        "against_offline": mean_error_rate(offline_text, transcripts),
    }


def mean_error_rate(reference: str, transcripts: Sequence[StreamTranscript]) -> float:
    return round(float(np.mean([error_rate(reference, transcript.text) for transcript in transcripts])), 2)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if values else None
