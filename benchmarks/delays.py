"""How long live words take: what a client of /v1/stream was told and when, against the words of an offline run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from wer import distance, normalise

# An alignment stretches the word before a pause into it, and the word after one, too.
_LONGEST_WORD = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """A word of the offline run; `end` is where it ends in the audio, in seconds."""

    text: str
    end: float

    @classmethod
    def of(cls, word: Mapping[str, Any]) -> Said:
        return cls(word["word"], min(word["end"], word["start"] + _LONGEST_WORD))


@dataclass(frozen=True, slots=True)
class Confirmed:
    """When a word became certain: `time` by the clock and `audio` by what was decoded, both since the stream began."""

    text: str
    time: float
    audio: float


@dataclass
class Hypothesis:
    """What one stream was told. Times are seconds since its first sample was sent."""

    words: list[Confirmed] = field(default_factory=list)
    first_partials: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    revisions: int = 0
    lags: int = 0

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words)


def heard(messages: Iterable[tuple[float, Mapping[str, Any]]], prefix: float = 0.3) -> Hypothesis:
    """Follow the messages of one stream; an utterance starts `prefix` before its first sound."""
    found = Hypothesis()
    confirmed: list[str] = []
    onset: float | None = None
    for time, message in messages:
        kind = message["type"]
        if kind == "speech":
            onset = message["t"] + prefix
        elif kind == "lag":
            found.lags += 1
        elif kind in ("partial", "final"):
            words = [word["word"] for word in message["words"]]
            found.revisions += words[: len(confirmed)] != confirmed
            found.words += [Confirmed(word, time, message["audio"]) for word in words[len(confirmed) :]]
            confirmed = words
            if onset is not None and (words or message.get("pending")):
                found.first_partials.append(time - onset)
                onset = None
        if kind == "final":
            if confirmed:
                found.finals.append(time - message["words"][-1]["end"])
            confirmed, onset = [], None
    return found


def delays(found: Hypothesis, said: Sequence[Said]) -> tuple[list[float], list[float]]:
    """Of each confirmed word that the offline run has, too: how long after its end it came, by clock and by audio."""
    live = [(text, word) for word in found.words for text in normalise(word.text)]
    offline = [(text, word) for word in said for text in normalise(word.text)]
    matcher = SequenceMatcher(None, [text for text, _ in live], [text for text, _ in offline], autojunk=False)
    by_clock: list[float] = []
    by_audio: list[float] = []
    for block in matcher.get_matching_blocks():
        for at in range(block.size):
            word, end = live[block.a + at][1], offline[block.b + at][1].end
            by_clock.append(max(0.0, word.time - end))
            by_audio.append(max(0.0, word.audio - end))
    return by_clock, by_audio


def describe(streams: Sequence[Hypothesis], said: Sequence[Said], reference: str) -> dict[str, Any]:
    """Figures of streams of one audio; the word error rates are in percent."""
    offline = "".join(word.text for word in said)
    pairs = [delays(stream, said) for stream in streams]
    by_clock = [delay for clock, _ in pairs for delay in clock]
    by_audio = [delay for _, audio in pairs for delay in audio]
    firsts = [time for stream in streams for time in stream.first_partials]
    finals = [time for stream in streams for time in stream.finals]
    return {
        "words": len(by_clock),
        "delay_mean": _mean(by_clock),
        "delay_p50": _percentile(by_clock, 50),
        "delay_p95": _percentile(by_clock, 95),
        "unaware_mean": _mean(by_audio),
        "first_p50": _percentile(firsts, 50),
        "first_p95": _percentile(firsts, 95),
        "final_p50": _percentile(finals, 50),
        "final_p95": _percentile(finals, 95),
        "revisions": sum(stream.revisions for stream in streams),
        "lags": sum(stream.lags for stream in streams),
        "wer": round(float(np.mean([errors(reference, stream.text) for stream in streams])), 2),
        "wer_offline": errors(reference, offline),
        "against_offline": round(float(np.mean([errors(offline, stream.text) for stream in streams])), 2),
    }


def errors(said: str, found: str) -> float:
    """The word error rate in percent."""
    words = normalise(said)
    return round(100 * distance(words, normalise(found)) / max(1, len(words)), 2)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if values else None
