"""What the model answered, by what it was asked: with it, work that was interrupted goes on where it was.

faster-whisper's `transcribe()` is a function of its arguments and of what the model answers. So a run that gets the
answers of an earlier one comes to where that stopped, whatever happens in between: conditioning on the text so far,
samples at a temperature, words, pieces in any order. Nothing is encoded for what is answered from the journal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Any, Protocol

import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.tickets import Ticket


class Journal(Protocol):
    """Keeps answers; called from several threads. Once `record` has returned, the answer is safe."""

    def find(self, key: str) -> bytes | None: ...

    def record(self, key: str, answer: bytes) -> None: ...


class Queue(Protocol):
    """What runs calls: a `DynamicBatcher`."""

    def call(self, key: Any, payload: Any, ticket: Ticket) -> Any: ...


@dataclass(frozen=True, slots=True)
class Generated:
    """What is used of a `WhisperGenerationResult`."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class Aligned:
    """What is used of a `WhisperAlignmentResult`."""

    alignments: list[tuple[int, int]]
    text_token_probs: list[float]


class Window:
    """Stands for an encoder output, and is encoded when a call wants it that the journal does not know."""

    def __init__(self, features: StorageView, encode: Callable[[], StorageView]) -> None:
        self._encode = encode
        self._output: StorageView | None = None
        self.digest = sha256(np.ascontiguousarray(features).data).hexdigest()
        # The encoder's second convolution halves the frames.
        self.shape = [features.shape[0], -(-features.shape[2] // 2)]

    @property
    def output(self) -> StorageView:
        if self._output is None:
            self._output = self._encode()
        return self._output


class JournaledCalls:
    """Answers calls from the journal where it can; others go to the queue, and their answers to the journal."""

    def __init__(self, queue: Queue, replay: Replay) -> None:
        self._queue = queue
        self._replay = replay

    def call(self, key: Any, payload: Any, ticket: Ticket) -> Any:
        ticket.check()
        if key.kind == "encode":
            return Window(payload, lambda: self._queue.call(key, payload, ticket))
        window, *rest = payload if isinstance(payload, tuple) else (payload,)
        name = self._replay.name(f"{key!r} {window.digest} {rest!r}")
        if (known := self._replay.journal.find(name)) is not None:
            return _READ[key.kind](json.loads(known))
        answer = self._queue.call(key, (window.output, *rest) if rest else window.output, ticket)
        written = json.dumps(_WRITE[key.kind](answer)).encode()
        self._replay.journal.record(name, written)
        return _READ[key.kind](json.loads(written))


class Replay:
    """A run of a request over its journal. Of equal calls the first gets the first answer and so on: samples differ."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._lock = Lock()
        self._seen: Counter[str] = Counter()

    def over(self, queue: Queue) -> JournaledCalls:
        return JournaledCalls(queue, self)

    def name(self, call: str) -> str:
        """Return what a call and its number among its equals are known by, 64 characters."""
        digest = sha256(call.encode()).hexdigest()
        with self._lock:
            number = self._seen[digest]
            self._seen[digest] += 1
        return sha256(f"{digest} {number}".encode()).hexdigest() if number else digest


# Numbers are doubles in JSON, and the model's are floats: nothing is lost.
_WRITE: Mapping[str, Callable[[Any], Any]] = {
    "generate": lambda result: [result.sequences_ids, result.scores, result.no_speech_prob],
    "detect_language": lambda found: [list(pair) for pair in found],
    "align": lambda result: [[list(pair) for pair in result.alignments], list(result.text_token_probs)],
}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "generate": lambda written: Generated(*written),
    "detect_language": lambda written: [tuple(pair) for pair in written],
    "align": lambda written: Aligned([tuple(pair) for pair in written[0]], written[1]),
}
