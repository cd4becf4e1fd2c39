"""About where in the audio each word of a text is spoken, as the transcription of the audio tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from whisper_server.inference.alignment.matching import WordMatcher
from whisper_server.inference.alignment.text import TextWord, comparable_units
from whisper_server.inference.alignment.voice import VoiceMap

# Words that were not heard are spoken nevertheless if there is speech for them: the fastest speech has about as many
# tokens per second. Short words vanish between others, so a few tokens always have a chance.
_TOKENS_PER_SECOND = 15
_FEW_TOKENS = 4
_MAX_WORD_TOKENS = 200
_MAX_WORD_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of the transcription. Times are in seconds."""

    text: str
    tokens: tuple[int, ...]
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """Tokens that are spoken at about `start` to `end`, in seconds.

    `number` is that of a word of the text, or -1 for a word that only the transcription has.
    """

    tokens: tuple[int, ...]
    start: float
    end: float
    number: int = -1


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Word `number` of the text is spoken where the words `first` to `last` of the transcription were heard."""

    number: int
    first: int
    last: int
    start: float
    end: float

    @property
    def own_seconds(self) -> float:
        """The time of the word alone: a longer one may be that of words around it that were not heard."""
        return min(self.end - self.start, _MAX_WORD_SECONDS)


def place_words(
    words: Sequence[TextWord], heard: Sequence[HeardWord], voice: VoiceMap, duration: float, check: Callable[[], None]
) -> list[PlacedWord]:
    """Return the words that are spoken in order: those of the text, and those that were heard between them.

    Words of the text for which there is no speech are left out, as are those of silent audio.
    """
    if not voice.seconds(0.0, duration):
        return []
    placed: list[PlacedWord] = []
    previous = _Anchor(-1, -1, -1, 0.0, 0.0)
    end = _Anchor(len(words), len(heard), len(heard), duration, duration)
    for anchor in [*_anchors(words, heard, check), end]:
        unmatched = heard[previous.last + 1 : anchor.first]
        others = [_placed(word) for word in unmatched if voice.seconds(word.start, word.end)]
        missing = range(previous.number + 1, anchor.number)
        start, stop = previous.start + previous.own_seconds, anchor.end - anchor.own_seconds
        between = _spread(words, missing, voice, start, max(start, stop))
        placed += sorted([*others, *between], key=lambda word: word.start)
        if anchor is not end:
            placed.append(PlacedWord(words[anchor.number].tokens, anchor.start, anchor.end, anchor.number))
        previous = anchor
    return [word for word in placed if len(word.tokens) <= _MAX_WORD_TOKENS]


def _placed(word: HeardWord) -> PlacedWord:
    return PlacedWord(word.tokens, word.start, word.end)


def _anchors(words: Sequence[TextWord], heard: Sequence[HeardWord], check: Callable[[], None]) -> Iterator[_Anchor]:
    """Yield an anchor for each word of the text that has a counterpart, in order."""
    units = [(unit, number) for number, word in enumerate(words) for unit in comparable_units(word.text)]
    others = [(number, *timed) for number, word in enumerate(heard) for timed in _timed_units(word)]
    pairs = WordMatcher([unit for unit, _ in units], [unit for _, unit, _, _ in others], check).pairs()
    anchor: _Anchor | None = None
    for (_, number), pair in zip(units, pairs.tolist(), strict=True):
        if pair < 0:
            continue
        position, _, start, end = others[pair]
        if anchor is not None and anchor.number == number:
            anchor = _Anchor(number, anchor.first, position, anchor.start, end)
            continue
        if anchor is not None:
            yield anchor
        anchor = _Anchor(number, position, position, start, end)
    if anchor is not None:
        yield anchor


def _timed_units(word: HeardWord) -> Iterator[tuple[str, float, float]]:
    """Yield each unit of a word with its share of the word's time."""
    units = comparable_units(word.text)
    seconds = (word.end - word.start) / max(1, len(units))
    for i, unit in enumerate(units):
        yield unit, word.start + i * seconds, word.start + (i + 1) * seconds


def _spread(
    words: Sequence[TextWord], numbers: range, voice: VoiceMap, start: float, end: float
) -> Iterator[PlacedWord]:
    """Place words that were not heard in a stretch between two others, or none if it has too little speech for them."""
    lengths = [len(words[number].tokens) for number in numbers]
    total = sum(lengths)
    if not total or total > _FEW_TOKENS + _TOKENS_PER_SECOND * voice.seconds(start, end):
        return
    times = voice.divide(start, end, [0.0, *(length / total for length in accumulate(lengths))])
    for number, first, last in zip(numbers, times, times[1:], strict=False):
        yield PlacedWord(words[number].tokens, first, last, number)
