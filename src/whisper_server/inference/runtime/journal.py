"""What the model answered, by what it was asked: with it, work that was interrupted goes on where it was.

faster-whisper's `transcribe()` is a function of its arguments and of what the model answers. So a run that gets the
answers of an earlier one comes to where that stopped, whatever happens in between: conditioning on the text so far,
samples at a temperature, words, pieces in any order. Nothing is encoded for what is answered from the journal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import methodcaller
from threading import Lock
from typing import Any, ClassVar, Protocol

import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.request_context import RequestContext


class Journal(Protocol):
    """Stores answers durably; called from several threads. An answer is safe once `record` has returned."""

    def find(self, *keys: str) -> bytes | None:
        """Return the answer stored under the first of these keys that is known."""
        ...

    def record(self, key: str, answer: bytes) -> None: ...


class Call(Protocol):
    """A call of the model. `parameters` is part of the format of stored keys: names and order must not change."""

    kind: ClassVar[str]

    @property
    def parameters(self) -> Mapping[str, Any]: ...


class Queue(Protocol):
    """What runs calls: a `DynamicBatcher`."""

    def call(self, key: Any, payload: Any, context: RequestContext) -> Any: ...


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

    def call(self, key: Any, payload: Any, context: RequestContext) -> Any:
        context.check()
        if key.kind == "encode":
            return Window(payload, lambda: self._queue.call(key, payload, context))
        window, *rest = payload if isinstance(payload, tuple) else (payload,)
        keys = self._replay.keys(key, window.digest, rest)
        if (known := self._replay.journal.find(*keys)) is not None:
            return _READ[key.kind](json.loads(known))
        answer = self._queue.call(key, (window.output, *rest) if rest else window.output, context)
        written = json.dumps(_WRITE[key.kind](answer)).encode()
        self._replay.journal.record(keys[0], written)
        return _READ[key.kind](json.loads(written))


class Replay:
    """A run of a request over its journal. Of equal calls the first gets the first answer and so on: samples differ."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._lock = Lock()
        self._occurrences: Counter[str] = Counter()

    def over(self, queue: Queue) -> JournaledCalls:
        return JournaledCalls(queue, self)

    def keys(self, call: Call, window: str, inputs: Sequence[Any]) -> tuple[str, str]:
        """Return the key of a call (64 characters), and the key under which version 1 stored its answer.

        Equal calls are told apart by an occurrence counter. `window` is the digest of the call's features.
        """
        text = _key_text(call, window, inputs)
        with self._lock:
            occurrence = self._occurrences[text]
            self._occurrences[text] += 1
        return _digest(text, occurrence), _digest(_key_text_v1(call, window, inputs), occurrence)


def _digest(text: str, occurrence: int) -> str:
    digest = sha256(text.encode()).hexdigest()
    return sha256(f"{digest} {occurrence}".encode()).hexdigest() if occurrence else digest


def _key_text(call: Call, window: str, inputs: Sequence[Any]) -> str:
    """Version 2 of the key format. Any change to it needs a new version and a test with a checkpoint of this one."""
    key = {"version": 2, "call": call.kind, "parameters": call.parameters, "window": window, "inputs": inputs}
    return json.dumps(key, default=methodcaller("item"))  # NumPy's numbers become Python's


def _key_text_v1(call: Call, window: str, inputs: Sequence[Any]) -> str:
    """The key format of checkpoints written before version 2, which were the `repr` of a dataclass of this name."""
    parameters = ", ".join(f"{name}={value!r}" for name, value in call.parameters.items())
    return f"{_CLASSES_V1[call.kind]}({parameters}) {window} {inputs!r}"


_CLASSES_V1 = {"generate": "_Generate", "detect_language": "_DetectLanguage", "align": "_Align"}

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
