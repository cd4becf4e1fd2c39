"""Which words are aligned with which part of the audio, up to 30 s at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whisper_server.inference.alignment.placement import PlacedWord

_WINDOW = 30.0
# Whisper's decoder has 448 positions, of which the text gets these; a word has at most half of them.
_MAX_TOKENS = 400
# A window begins and ends with words of its neighbours, as alignments are least accurate at their edges.
_CONTEXT_WORDS = 3
_MAX_CONTEXT_SECONDS = 6.0
_MAX_CONTEXT_TOKENS = 100
# The seconds of audio before the first and after the last word, if nothing else is spoken in them.
_MARGIN = 1.0
# The words of a window end by then, as it is not known exactly where they are. A window with more words to follow is
# cut in the longest pause of its last part.
_LATEST_END = 28.0
_EARLIEST_CUT = 18.0


@dataclass(frozen=True, slots=True)
class Window:
    """The words `first` to `stop`, aligned with `start` to `end` of the audio; the results of those in `used` count."""

    start: float
    end: float
    first: int
    stop: int
    used: range


def plan_windows(words: Sequence[PlacedWord], duration: float) -> Iterator[Window]:
    """Yield windows that use each of the words once, in order."""
    if duration <= _WINDOW and sum(len(word.tokens) for word in words) <= _MAX_TOKENS:
        # As it is transcribed: as a whole.
        if words:
            yield Window(0.0, duration, 0, len(words), range(len(words)))
        return
    start = 0
    while start < len(words):
        first = _first_of_context(words, start)
        begin = _begin(words, first)
        stop = _stop(words, first, start + 1, len(words), begin + _LATEST_END)
        if stop < len(words):
            stop = _longest_pause(words, start, stop, begin + _EARLIEST_CUT)
        last = _stop(words, first, stop, min(len(words), stop + _CONTEXT_WORDS), begin + _LATEST_END)
        yield Window(begin, min(begin + _WINDOW, _end(words, last, duration)), first, last, range(start, stop))
        start = stop


def _first_of_context(words: Sequence[PlacedWord], start: int) -> int:
    first, tokens = start, 0
    while first > 0 and start - first < _CONTEXT_WORDS:
        tokens += len(words[first - 1].tokens)
        if tokens > _MAX_CONTEXT_TOKENS or words[start].start - words[first - 1].start > _MAX_CONTEXT_SECONDS:
            break
        first -= 1
    return first


def _begin(words: Sequence[PlacedWord], first: int) -> float:
    earliest = words[first - 1].end if first else 0.0
    return min(max(earliest, words[first].start - _MARGIN), words[first].start)


def _end(words: Sequence[PlacedWord], stop: int, duration: float) -> float:
    latest = words[stop].start if stop < len(words) else duration
    return max(words[stop - 1].end, min(latest, words[stop - 1].end + _MARGIN))


def _stop(words: Sequence[PlacedWord], first: int, stop: int, limit: int, latest: float) -> int:
    """Extend the words `first` to `stop` as far as there is room, at most to `limit`."""
    tokens = sum(len(word.tokens) for word in words[first:stop])
    while stop < limit and words[stop].end <= latest:
        tokens += len(words[stop].tokens)
        if tokens > _MAX_TOKENS:
            break
        stop += 1
    return stop


def _longest_pause(words: Sequence[PlacedWord], start: int, stop: int, earliest: float) -> int:
    """Return the word before which to cut; of equal pauses, the last."""
    candidates = [i for i in range(start + 1, stop + 1) if words[i - 1].end >= earliest or i == stop]
    return max(candidates, key=lambda i: (words[i].start - words[i - 1].end, i))
