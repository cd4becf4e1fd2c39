"""The events of a live session, independent of any protocol. Times are seconds since the session's first sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from whisper_server.inference.transcription.segments import Word


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`time` is where the utterance starts, a little before the speech is detected."""

    time: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """`time` is where the speech ended; the utterance's Final follows."""

    time: float


@dataclass(frozen=True, slots=True)
class Update:
    """`confirmed` are the words confirmed since the last update, which never change; `pending` words may change.

    `audio` is the end of the audio that was decoded.
    """

    utterance: int
    confirmed: tuple[Word, ...]
    pending: tuple[Word, ...]
    audio: float


@dataclass(frozen=True, slots=True)
class Final:
    """`words` are all words of the utterance: those that its updates confirmed, and the last ones.

    Every flush results in exactly one Final that is `flushed`, with or without words.
    """

    utterance: int
    words: tuple[Word, ...]
    start: float
    end: float
    audio: float
    language: str
    flushed: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """The server has this much audio that it has not decoded."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event."""

    audio: float


Event: TypeAlias = SpeechStarted | SpeechStopped | Update | Final | Lag | Ended
