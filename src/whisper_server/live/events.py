"""What a live session tells its client, in the words of no protocol. All times are seconds since its first sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Word:
    """`text` as Whisper writes it, with the space before it: the words joined are the text."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`time` is where the utterance starts, which is a little before the first sound of speech."""

    time: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """`time` is where the speech ended; the utterance's Final follows."""

    time: float


@dataclass(frozen=True, slots=True)
class Update:
    """`confirmed` are the words that are certain since the last update and stay; `pending` may still change.

    `audio` is how much was heard by then, in seconds.
    """

    utterance: int
    confirmed: tuple[Word, ...]
    pending: tuple[Word, ...]
    audio: float


@dataclass(frozen=True, slots=True)
class Final:
    """`words` are all that the updates of the utterance confirmed, and those that are confirmed with this event.

    Every flush is answered by one of these that is `flushed`, maybe without words.
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
    """The server is behind by this much audio."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event."""

    audio: float


Event: TypeAlias = SpeechStarted | SpeechStopped | Update | Final | Lag | Ended
