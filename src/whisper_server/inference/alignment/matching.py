"""Which words of one text correspond to which words of another, for texts of hours.

Rare sequences of words that both texts have divide them into short stretches, in which dynamic programming finds the
alignment with the fewest differences. So time and memory grow with the length of the texts, not with its square.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Consecutive words that occur once in both texts are taken for the same place. The more words, the surer.
_ANCHOR_SIZES = (12, 6, 3)
# Stretches with up to so many pairs of words are aligned at once, which takes a byte for each pair. Larger ones that
# cannot be divided are aligned in steps: so many words with twice as many of the other text, of which half are kept.
_MAX_CELLS = 4_000_000
_STEP = 700
_SIMILAR_PREFIX = 3

# Costs of a pair of different words and of words without a counterpart: a gap is opened, then extended for each word.
_SIMILAR, _DIFFERENT, _OPEN, _EXTEND = 2, 4, 1, 2
_PAIR, _DELETION, _INSERTION, _CHOICE, _EXTENDS_DELETION, _EXTENDS_INSERTION = 0, 1, 2, 3, 4, 8
_INFINITE = 1 << 28

Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Block:
    """Words start to stop of the first text and of the second one."""

    start: int
    stop: int
    other_start: int
    other_stop: int

    @property
    def cells(self) -> int:
        return (self.stop - self.start) * (self.other_stop - self.other_start)


class WordMatcher:
    """Pairs the words of a text with those of another one; `check` is called often, and may raise."""

    def __init__(self, words: Sequence[str], others: Sequence[str], check: Callable[[], None]) -> None:
        self._words, self._others = _numbered(words, others)
        self._prefixes, self._other_prefixes = _numbered(*([w[:_SIMILAR_PREFIX] for w in ws] for ws in (words, others)))
        self._check = check
        self._pairs = np.full(len(words), -1, np.int32)

    def pairs(self) -> Integers:
        """Return the position of each word's counterpart, in ascending order, or -1 for words that have none.

        A counterpart may be a different word where both texts have as many words between two that are equal.
        """
        whole = _Block(0, len(self._words), 0, len(self._others))
        blocks: list[tuple[_Block, tuple[int, ...]]] = [(whole, _ANCHOR_SIZES)]
        while blocks:
            self._check()
            block, sizes = blocks.pop()
            if block.cells <= _MAX_CELLS:
                self._align(block)
            elif not sizes:
                self._align_in_steps(block)
            else:
                parts = list(self._divide(block, sizes[0]))
                # A part may have sequences of the same size that are rare only within it.
                blocks += [(part, sizes if len(parts) > 1 else sizes[1:]) for part in parts]
        return self._pairs

    def _divide(self, block: _Block, size: int) -> Iterator[_Block]:
        """Pair the first words of sequences that occur once in both parts, and yield the blocks between them."""
        first = _unique_sequences(self._words[block.start : block.stop], size)
        second = _unique_sequences(self._others[block.other_start : block.other_stop], size)
        common = [(position, second[key]) for key, position in first.items() if key in second]
        start, other_start = block.start, block.other_start
        for position, other in _longest_increasing(common):
            position, other = block.start + position, block.other_start + other
            self._pairs[position] = other
            if start < position and other_start < other:
                yield _Block(start, position, other_start, other)
            start, other_start = position + 1, other + 1
        yield _Block(start, block.stop, other_start, block.other_stop)

    def _align_in_steps(self, block: _Block) -> None:
        start, other_start = block.start, block.other_start
        while block.stop - start > _STEP and other_start < block.other_stop:
            stop, other_stop = start + _STEP, min(block.other_stop, other_start + 2 * _STEP)
            self._align(_Block(start, stop, other_start, other_stop), open_end=True)
            middle = start + _STEP // 2
            self._pairs[middle:stop] = -1
            other_start = max(other_start, int(self._pairs[start:middle].max()) + 1)
            start = middle
        self._align(_Block(start, block.stop, other_start, min(block.other_stop, other_start + 2 * _STEP)))

    def _align(self, block: _Block, *, open_end: bool = False) -> None:
        """Pair the words of a block with the lowest cost (Gotoh's algorithm, a row at a time).

        With an open end, the last words of the other text need no counterparts.
        """
        if not block.cells:
            return
        rows, costs = self._fill(block)
        i, j = block.stop - block.start, int(costs.argmin()) if open_end else len(costs) - 1
        state = -1
        while i > 0 and j > 0:
            cell = rows[i - 1, j - 1]
            state = cell & _CHOICE if state < 0 else state
            if state == _PAIR:
                i, j = i - 1, j - 1
                self._pairs[block.start + i] = block.other_start + j
                state = -1
            elif state == _DELETION:
                state, i = (_DELETION if cell & _EXTENDS_DELETION else -1), i - 1
            else:
                state, j = (_INSERTION if cell & _EXTENDS_INSERTION else -1), j - 1

    def _fill(self, block: _Block) -> tuple[NDArray[np.uint8], Integers]:
        """Return how the cheapest alignment of each two prefixes ends, shape (words, others), and the last row's costs.

        The costs begin with that of no others.
        """
        others = slice(block.other_start, block.other_stop)
        length = others.stop - others.start
        extended = _EXTEND * np.arange(length + 1, dtype=np.int32)
        best = extended + _OPEN
        best[0] = 0
        deletion = np.full(length + 1, _INFINITE, np.int32)
        rows = np.empty((block.stop - block.start, length), np.uint8)
        for row in range(block.stop - block.start):
            self._check()
            word = block.start + row
            similar = np.where(self._other_prefixes[others] == self._prefixes[word], _SIMILAR, _DIFFERENT)
            pair = np.full(length + 1, _INFINITE, np.int32)
            pair[1:] = best[:-1] + np.where(self._others[others] == self._words[word], 0, similar)
            extends_deletion = deletion <= best + _OPEN
            deletion = np.minimum(deletion, best + _OPEN) + _EXTEND
            before = np.minimum(pair, deletion)
            insertion = np.full(length + 1, _INFINITE, np.int32)
            insertion[1:] = np.minimum.accumulate(before - extended)[:-1] + extended[1:] + _OPEN
            extends_insertion = insertion[:-1] <= before[:-1] + _OPEN
            best = np.minimum(before, insertion)
            choice = np.where(best == pair, _PAIR, np.where(best == deletion, _DELETION, _INSERTION))[1:]
            rows[row] = choice | extends_deletion[1:] * _EXTENDS_DELETION | extends_insertion * _EXTENDS_INSERTION
        return rows, best


def _numbered(words: Sequence[str], others: Sequence[str]) -> tuple[Integers, Integers]:
    """Return the words as numbers, equal ones as the same number."""
    numbers = {word: number for number, word in enumerate({*words, *others})}
    return np.array([numbers[w] for w in words], np.int32), np.array([numbers[w] for w in others], np.int32)


def _unique_sequences(words: Integers, size: int) -> dict[bytes, int]:
    """Return the positions of the sequences of that many words that occur once."""
    positions: dict[bytes, int] = {}
    for position in range(len(words) - size + 1):
        key = words[position : position + size].tobytes()
        positions[key] = -1 if key in positions else position
    return {key: position for key, position in positions.items() if position >= 0}


def _longest_increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest series of pairs in which both members increase; the pairs are sorted by the first one."""
    ends: list[int] = []
    last: list[int] = []
    previous: list[int] = []
    for index, (_, other) in enumerate(pairs):
        length = bisect_left(ends, other)
        previous.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [other]
        last[length : length + 1] = [index]
    series = []
    index = last[-1] if last else -1
    while index >= 0:
        series.append(pairs[index])
        index = previous[index]
    return series[::-1]
