"""Which confirmed words of a live session become a final result together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from whisper_server.inference.transcription.segments import Word

_CLAUSE_ENDS = tuple(".,;:?!…。，、；：？！")
_PUNCTUATION = "".join(_CLAUSE_ENDS) + "\"'“”‘’»«)]-–—"
# In seconds, chosen by hand: a pause between two words, and the longest stretch without a clause or a pause.
_PAUSE = 0.4
_LONGEST = 4.0
# A result has at least so many words or seconds, and at least so many words are left for the one after it.
_SHORTEST_WORDS = 3
_SHORTEST = 1.0
_KEPT_WORDS = 2


def settled(words: Sequence[Word]) -> int:
    """Return how many of the confirmed words, which no final result has yet, are one now; 0 if they should wait.

    They end with a clause or before a pause, or where they have become too long. If there are several clauses, call it
    again with the remaining words. The last word always waits, because punctuation may still follow it.
    """
    counts = range(_SHORTEST_WORDS, len(words) - _KEPT_WORDS + 1)
    candidates = [count for count in counts if not is_punctuation(words[count])]
    ends = [count for count in candidates if _is_end(words, count) and _seconds(words, count) >= _SHORTEST]
    if ends:
        return max((count for count in ends if _seconds(words, count) <= _LONGEST), default=ends[0])
    if candidates and _seconds(words, candidates[-1]) >= _LONGEST:
        return max(candidates, key=lambda count: (round(_gap(words, count), 2), count))
    return 0


def with_punctuation(words: Sequence[Word]) -> list[Word]:
    """Return the words, with punctuation that was confirmed later joined to the word before it."""
    joined: list[Word] = []
    for word in words:
        if joined and is_punctuation(word):
            joined[-1] = replace(joined[-1], text=joined[-1].text + word.text)
        else:
            joined.append(word)
    return joined


def is_punctuation(word: Word) -> bool:
    return not word.text.startswith(" ") and not word.text.strip(_PUNCTUATION)


def _is_end(words: Sequence[Word], count: int) -> bool:
    return words[count - 1].text.endswith(_CLAUSE_ENDS) or _gap(words, count) >= _PAUSE


def _gap(words: Sequence[Word], count: int) -> float:
    """Return the seconds between the last of so many words and the next one."""
    return words[count].start - words[count - 1].end


def _seconds(words: Sequence[Word], count: int) -> float:
    """Return the time from the first word to the end of the last of so many."""
    return words[count - 1].end - words[0].start
