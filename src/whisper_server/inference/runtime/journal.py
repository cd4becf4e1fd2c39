"""Replays the model's results, so that an interrupted transcription continues where it stopped.

faster-whisper's `transcribe()` is a function of its arguments and of the model's results. A new run that gets the
results of an interrupted one reaches the same state, whatever its options: conditioning on previous text, sampling,
word timestamps, chunks in any order. Windows whose results are all in the journal are not encoded again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from operator import methodcaller
from threading import Lock
from typing import Any, Protocol

import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.calls import Call, CallExecutor


class Journal(Protocol):
    """Stores results durably. Several threads use it. Either method may raise an error to stop the run."""

    def find(self, *keys: str) -> bytes | None:
        """Return the result stored under the first of these keys that has one, or None."""
        ...

    def record(self, key: str, result: bytes) -> None:
        """Store a result; when this returns, it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The used part of a `WhisperGenerationResult`."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class AlignmentResult:
    """The used part of a `WhisperAlignmentResult`."""

    alignments: list[tuple[int, int]]
    text_token_probs: list[float]


class LazyEncoderOutput:
    """An encoder output that `compute()` computes once. `digest` is that of its features, `shape` is incomplete."""

    def __init__(self, features: StorageView, encode: Callable[[], StorageView]) -> None:
        self.compute = cache(encode)
        self.digest = sha256(np.ascontiguousarray(features).data).hexdigest()
        # The encoder's second convolution halves the frames.
        self.shape = [features.shape[0], -(-features.shape[2] // 2)]


class Replay:
    """One run of a request with its journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._lock = Lock()
        self._occurrences: Counter[str] = Counter()

    def keys(self, call: Call, window: str, inputs: Sequence[Any]) -> tuple[str, str]:
        """Return the key of a call (64 characters), and the key under which version 1 stored its result.

        `window` is the digest of the call's features. Identical calls get different keys through an occurrence
        counter, as sampling gives each a result of its own.
        """
        text = _key_text(call, window, inputs)
        with self._lock:
            occurrence = self._occurrences[text]
            self._occurrences[text] += 1
        return _digest(text, occurrence), _digest(_key_text_v1(call, window, inputs), occurrence)


class JournaledCalls:
    """Takes results from the journal where it has them; runs other calls and records their results.

    Encoder outputs are `LazyEncoderOutput`s: they are computed for calls that are not in the journal.
    """

    def __init__(self, executor: CallExecutor, replay: Replay) -> None:
        self._executor = executor
        self._replay = replay

    def call(self, key: Call, payload: Any, context: RequestContext) -> Any:
        """Return the result; raises Cancelled, and what the executor and the journal raise."""
        context.check()
        if key.kind == "encode":
            return LazyEncoderOutput(payload, lambda: self._executor.call(key, payload, context))
        window, *inputs = payload if isinstance(payload, tuple) else (payload,)
        keys = self._replay.keys(key, window.digest, inputs)
        stored = self._replay.journal.find(*keys)
        if stored is None:
            result = self._executor.call(key, (window.compute(), *inputs) if inputs else window.compute(), context)
            stored = json.dumps(_TO_JSON[key.kind](result)).encode()
            self._replay.journal.record(keys[0], stored)
        return _FROM_JSON[key.kind](json.loads(stored))


def _digest(text: str, occurrence: int) -> str:
    digest = sha256(text.encode()).hexdigest()
    return sha256(f"{digest} {occurrence}".encode()).hexdigest() if occurrence else digest


def _key_text(call: Call, window: str, inputs: Sequence[Any]) -> str:
    """Version 2 of the key format. Any change to it needs a new version and a test with a checkpoint of this one."""
    key = {"version": 2, "call": call.kind, "parameters": call.parameters, "window": window, "inputs": inputs}
    return json.dumps(key, default=methodcaller("item"))  # converts NumPy's numbers to Python's


def _key_text_v1(call: Call, window: str, inputs: Sequence[Any]) -> str:
    """The key format of older checkpoints, which used the `repr` of dataclasses with these names."""
    parameters = ", ".join(f"{name}={value!r}" for name, value in call.parameters.items())
    return f"{_CLASSES_V1[call.kind]}({parameters}) {window} {inputs!r}"


_CLASSES_V1 = {"generate": "_Generate", "detect_language": "_DetectLanguage", "align": "_Align"}

# JSON's numbers are doubles and the model's are 32-bit floats, so nothing is lost.
_TO_JSON: Mapping[str, Callable[[Any], Any]] = {
    "generate": lambda result: [result.sequences_ids, result.scores, result.no_speech_prob],
    "detect_language": lambda languages: [list(pair) for pair in languages],
    "align": lambda result: [[list(pair) for pair in result.alignments], list(result.text_token_probs)],
}
_FROM_JSON: Mapping[str, Callable[[Any], Any]] = {
    "generate": lambda stored: GenerationResult(*stored),
    "detect_language": lambda stored: [tuple(pair) for pair in stored],
    "align": lambda stored: AlignmentResult([tuple(pair) for pair in stored[0]], stored[1]),
}
