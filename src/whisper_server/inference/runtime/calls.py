"""The calls that faster-whisper makes to its model, as values that can be batched and journaled.

Calls that compare equal can run as one batch: their options are equal, and so are the shapes of their payloads. All
arrays are batches of one window. Mel frames are 10 ms long, the frames of encoder outputs 20 ms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeAlias

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.request_context import RequestContext

Options: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Call(ABC):
    """A method of `ctranslate2.models.Whisper` and its options, for inputs of so many `frames`.

    The fields are part of the format of checkpoint keys (journal.py): their names and order must not change.
    """

    kind: ClassVar[str]
    frames: int

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @abstractmethod
    def run(self, model: ctranslate2.models.Whisper, payloads: list[Any]) -> Sequence[Any]:
        """Run a batch and return a result for each payload, in order; raises what CTranslate2 raises."""


class CallExecutor(Protocol):
    """Runs calls: a `DynamicBatcher`, or a `JournaledCalls` in front of one."""

    def call(self, key: Call, payload: Any, context: RequestContext) -> Any: ...


@dataclass(frozen=True, slots=True)
class Encode(Call):
    """Payload: features, shape (1, mels, frames). Result: encoder output in RAM, shape (1, ceil(frames / 2), width)."""

    kind: ClassVar[str] = "encode"

    def run(self, model: ctranslate2.models.Whisper, payloads: list[StorageView]) -> list[StorageView]:
        return _unstack(model.encode(_stack(payloads), to_cpu=True), len(payloads))


@dataclass(frozen=True, slots=True)
class Generate(Call):
    """Payload: encoder output, shape (1, frames, width), and prompt tokens. Result: a `WhisperGenerationResult`.

    In all prompts of a batch, CTranslate2 requires `<|startoftranscript|>` at the same index (`start`) and the same
    number of special tokens after it; `prompt_length` is the length up to the last of those. After them each prompt
    may have a text prefix of any length.
    """

    kind: ClassVar[str] = "generate"
    start: int
    prompt_length: int
    options: Options

    def run(self, model: ctranslate2.models.Whisper, payloads: list[tuple[StorageView, list[int]]]) -> Sequence[Any]:
        outputs, prompts = zip(*payloads, strict=True)
        return list(model.generate(_stack(outputs), list(prompts), **dict(self.options)))

    @property
    def beam_size(self) -> int:
        return int(dict(self.options).get("beam_size", 1))

    def with_max_beam_size(self, limit: int) -> Generate:
        """Return the same call with at most `limit` beams."""
        if self.beam_size <= limit:
            return self
        options = dict(self.options)
        # A patience below 1 is meant for more beams: with fewer, the search could end without a hypothesis.
        options |= {"beam_size": limit, "patience": max(1.0, options.get("patience", 1.0))}
        return replace(self, options=hashable_options(options))


@dataclass(frozen=True, slots=True)
class DetectLanguage(Call):
    """Payload: encoder output, shape (1, frames, width). Result: (token, probability) pairs, the likeliest first."""

    kind: ClassVar[str] = "detect_language"

    def run(self, model: ctranslate2.models.Whisper, payloads: list[StorageView]) -> Sequence[Any]:
        return list(model.detect_language(_stack(payloads)))


@dataclass(frozen=True, slots=True)
class Align(Call):
    """Payload: encoder output, shape (1, frames, width), text tokens, and the number of mel frames without padding.

    Result: a `WhisperAlignmentResult`.
    """

    kind: ClassVar[str] = "align"
    start_sequence: tuple[int, ...]
    options: Options

    def run(
        self, model: ctranslate2.models.Whisper, payloads: list[tuple[StorageView, list[int], int]]
    ) -> Sequence[Any]:
        outputs, tokens, num_frames = zip(*payloads, strict=True)
        start, options = list(self.start_sequence), dict(self.options)
        return list(model.align(_stack(outputs), start, list(tokens), list(num_frames), **options))


def hashable_options(options: Mapping[str, Any]) -> Options:
    """Return keyword arguments as sorted pairs, with tuples instead of lists."""
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(options.items()))


def avg_logprob(result: Any, length_penalty: float) -> float:
    """Return the average log probability of a generation result, as faster-whisper computes it for a segment."""
    length = len(result.sequences_ids[0])
    return float(result.scores[0] * length**length_penalty / (length + 1))


def _stack(views: Sequence[StorageView]) -> StorageView:
    if len(views) == 1:
        return views[0]
    return StorageView.from_array(np.concatenate([_as_array(view) for view in views]))


def _unstack(view: StorageView, count: int) -> list[StorageView]:
    if count == 1:
        return [view]
    array = _as_array(view)
    return [StorageView.from_array(array[i : i + 1].copy()) for i in range(count)]


def _as_array(view: StorageView) -> Any:
    """Convert bfloat16, which NumPy does not have, to float32."""
    if view.dtype == ctranslate2.DataType.bfloat16:
        view = view.to(ctranslate2.DataType.float32)
    return np.asarray(view)
