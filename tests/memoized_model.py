"""A model that computes each window once, so that many tests can transcribe the same clips."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.runtime.journal import AlignmentResult, GenerationResult


class SharedResults:
    """Results of the model in the files of a folder, which the processes of a test run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def find(self, keys: Sequence[str]) -> dict[str, Any]:
        return {key: pickle.loads(file.read_bytes()) for key in keys if (file := self._file(key)).exists()}

    def record(self, results: dict[str, Any]) -> None:
        for key, result in results.items():
            part = self._folder / f"{os.getpid()}-{get_ident()}"
            part.write_bytes(pickle.dumps(result))
            part.replace(self._file(key))

    def _file(self, key: str) -> Path:
        return self._folder / sha1(key.encode()).hexdigest()


class MemoizedWhisper:
    """Behaves like the `ctranslate2.models.Whisper` that it wraps, and repeats what that has returned before.

    `max_outputs` is the number of encoder outputs that it keeps; all results are in `shared` as well. Calls that sample
    always run, and all calls run while it is not `enabled`.
    """

    def __init__(
        self, model: ctranslate2.models.Whisper, shared: SharedResults | None = None, max_outputs: int = 64
    ) -> None:
        self._model = model
        self._shared = shared
        self._max_outputs = max_outputs
        self.enabled = True
        self._outputs: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, features: StorageView, to_cpu: bool = False) -> StorageView:
        windows = np.asarray(features)

        def run(missing: list[int]) -> Sequence[Any]:
            return list(np.asarray(self._model.encode(_view(windows[missing]), to_cpu=True)).copy())

        outputs = self._repeat_or_run(self._outputs, [_digest(window) for window in windows], run)
        with self._lock:
            for old in list(self._outputs)[: -self._max_outputs]:
                del self._outputs[old]
        return _view(np.stack(outputs))

    def generate(self, features: StorageView, prompts: Sequence[list[int]], **options: Any) -> list[Any]:
        if options.get("sampling_temperature", 0) > 0:
            return list(self._model.generate(features, prompts, **options))

        def generate(outputs: StorageView, prompts: list[list[int]], **options: Any) -> list[GenerationResult]:
            results = self._model.generate(outputs, prompts, **options)
            return [GenerationResult(one.sequences_ids, one.scores, one.no_speech_prob) for one in results]

        return self._by_window(generate, features, [prompts], (), options)

    def detect_language(self, features: StorageView) -> list[Any]:
        return self._by_window(self._model.detect_language, features, [], (), {})

    def align(
        self,
        features: StorageView,
        start_sequence: Sequence[int],
        text_tokens: Sequence[list[int]],
        num_frames: Sequence[int] | int,
        **options: Any,
    ) -> list[Any]:
        frames = [num_frames] * len(text_tokens) if isinstance(num_frames, int) else num_frames

        def align(outputs: StorageView, tokens: list[list[int]], frames: list[int], **options: Any) -> Sequence[Any]:
            results = self._model.align(outputs, list(start_sequence), tokens, frames, **options)
            return [AlignmentResult(one.alignments, one.text_token_probs) for one in results]

        return self._by_window(align, features, [text_tokens, frames], tuple(start_sequence), options)

    def _by_window(
        self, call: Callable[..., Any], features: StorageView, inputs: list[Any], common: Any, options: dict[str, Any]
    ) -> list[Any]:
        """Run a call whose `inputs` have one entry for each window, for the windows without a result."""
        windows = np.asarray(features)
        per_window = list(zip(*inputs, strict=True)) or [()] * len(windows)

        def run(missing: list[int]) -> Sequence[Any]:
            selected = [[column[i] for i in missing] for column in inputs]
            return list(call(_view(windows[missing]), *selected, **options))

        keys = [
            f"{call.__name__} {_digest(window)} {given} {common} {sorted(options.items())}"
            for window, given in zip(windows, per_window, strict=True)
        ]
        return self._repeat_or_run(self._results, keys, run)

    def _repeat_or_run(
        self, memory: dict[str, Any], keys: list[str], run: Callable[[list[int]], Sequence[Any]]
    ) -> list[Any]:
        with self._lock:
            results = {key: memory[key] for key in keys if self.enabled and key in memory}
        missing = [i for i, key in enumerate(keys) if key not in results]
        if missing and self.enabled and self._shared is not None:
            results |= self._shared.find([keys[i] for i in missing])
            missing = [i for i in missing if keys[i] not in results]
        if missing:
            computed = dict(zip((keys[i] for i in missing), run(missing), strict=True))
            results |= computed
            if self._shared is not None:
                self._shared.record(computed)
        with self._lock:
            memory |= results
        return [results[key] for key in keys]


def _view(array: Any) -> StorageView:
    return StorageView.from_array(np.ascontiguousarray(array))


def _digest(array: Any) -> str:
    return sha1(np.ascontiguousarray(array).data).hexdigest()
