"""Stands in for `ctranslate2.models.Whisper` below faster-whisper's `transcribe()`, and batches across requests.

faster-whisper calls four methods of its model: `encode`, `generate`, `detect_language` and `align`. Each request's
thread calls them on a view of its own; their calls meet in one queue, and those that can run as one batch do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeAlias

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.core.errors import OutOfMemory
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime import adaptive_window
from whisper_server.inference.runtime.batcher import BatchStatistics, DynamicBatcher
from whisper_server.inference.runtime.journal import Queue, Replay
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff, is_out_of_memory
from whisper_server.inference.runtime.weights import Placement, Weights

logger = logging.getLogger(__name__)

# What CTranslate2 says of a model only while its weights are loaded, and requests want to know meanwhile.
_FACTS = ("is_multilingual", "n_mels", "num_languages")

Options: TypeAlias = tuple[tuple[str, Any], ...]


class _Call(Protocol):
    """Calls that are equal run together: their payloads have the same shapes and their options are the same."""

    kind: ClassVar[str]

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    def run(self, model: ctranslate2.models.Whisper, payloads: list[Any]) -> Sequence[Any]: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Encode:
    """Payload: features, shape (1, mels, frames). Result: encoder output, shape (1, frames / 2, width)."""

    kind: ClassVar[str] = "encode"
    frames: int

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"frames": self.frames}

    def run(self, model: ctranslate2.models.Whisper, payloads: list[StorageView]) -> list[StorageView]:
        return _unstacked(model.encode(_stacked(payloads), to_cpu=True), len(payloads))


@dataclass(frozen=True, slots=True)
class _Generate:
    """Payload: encoder output and prompt.

    CTranslate2 wants `<|startoftranscript|>` at one index of all prompts of a batch and as many special tokens after
    it; `prompt_length` is up to the last of those. The text that a result is to begin with may be of any length.
    """

    kind: ClassVar[str] = "generate"
    frames: int
    start: int
    prompt_length: int
    options: Options

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "frames": self.frames,
            "start": self.start,
            "prompt_length": self.prompt_length,
            "options": self.options,
        }

    def run(self, model: ctranslate2.models.Whisper, payloads: list[tuple[StorageView, list[int]]]) -> Sequence[Any]:
        outputs, prompts = zip(*payloads, strict=True)
        results: Sequence[Any] = model.generate(_stacked(outputs), list(prompts), **dict(self.options))
        return results

    @property
    def beam(self) -> int:
        return int(dict(self.options).get("beam_size", 1))

    def narrowed(self, most: int) -> _Generate:
        """The same with no more beams than that."""
        if self.beam <= most:
            return self
        # A patience that was meant for more beams is at least one hypothesis in fewer.
        fewer = {**dict(self.options), "beam_size": most, "patience": max(1.0, dict(self.options).get("patience", 1.0))}
        return replace(self, options=_hashable(fewer))


@dataclass(frozen=True, slots=True)
class _DetectLanguage:
    """Payload: encoder output."""

    kind: ClassVar[str] = "detect_language"
    frames: int

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"frames": self.frames}

    def run(self, model: ctranslate2.models.Whisper, payloads: list[StorageView]) -> Sequence[Any]:
        results: Sequence[Any] = model.detect_language(_stacked(payloads))
        return results


@dataclass(frozen=True, slots=True)
class _Align:
    """Payload: encoder output, text tokens and the number of frames that are not padding."""

    kind: ClassVar[str] = "align"
    frames: int
    start_sequence: tuple[int, ...]
    options: Options

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"frames": self.frames, "start_sequence": self.start_sequence, "options": self.options}

    def run(
        self, model: ctranslate2.models.Whisper, payloads: list[tuple[StorageView, list[int], int]]
    ) -> Sequence[Any]:
        outputs, tokens, lengths = zip(*payloads, strict=True)
        results: Sequence[Any] = model.align(
            _stacked(outputs), list(self.start_sequence), list(tokens), list(lengths), **dict(self.options)
        )
        return results


class BatchedModel:
    """Runs calls with the weights, one after the other if need be: where memory runs out, less is done at once."""

    def __init__(self, weights: Weights, backoff: MemoryBackoff) -> None:
        self.weights = weights
        self.backoff = backoff
        self._facts = {name: getattr(weights.model, name) for name in _FACTS}
        self._batcher = DynamicBatcher[_Call, Any, Any](
            self._run, workers=weights.model.num_workers, max_batch_size=self._most_at_once
        )

    @property
    def model(self) -> ctranslate2.models.Whisper:
        return self.weights.model

    @property
    def low_latency_model(self) -> ctranslate2.models.Whisper | None:
        return self.weights.low_latency_model

    def _most_at_once(self, call: _Call) -> int:
        """A batch of encoders fills a card; on a CPU it costs as much as one after the other, and the last waits."""
        if self.model.device == "cpu" and isinstance(call, _Encode):
            return 1
        return self.backoff.batch

    def _run(self, call: _Call, payloads: list[Any], alone: bool) -> Sequence[Any]:
        narrowed = call.narrowed(self.backoff.beam) if isinstance(call, _Generate) else call
        placement = self.weights.placement
        try:
            with self.weights.using(alone=alone) as model:
                placement = self.weights.placement
                results = narrowed.run(model, payloads)
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            return self._run_with_less(narrowed, payloads, placement, exc)
        if self.backoff.record_success():
            self._ask_for_more()
        return results

    def _run_with_less(self, call: _Call, payloads: list[Any], placement: Placement, exc: Exception) -> Sequence[Any]:
        """Half a batch, fewer beams or smaller weights; raises OutOfMemory if there is nothing left to give up."""
        count = len(payloads)
        logger.debug("a batch of %d failed on %s: %s", count, placement, exc)
        if count > 1:
            self.backoff.lower_batch(count)
            halves = payloads[: count // 2], payloads[count // 2 :]
            return [result for half in halves for result in self._run(call, half, False)]
        if isinstance(call, _Generate) and call.beam > 1:
            self.backoff.lower_beam(call.beam)
        elif not self.weights.fall_back(placement):
            raise OutOfMemory from exc
        return self._run(call, payloads, False)

    def _ask_for_more(self) -> None:
        """What was given up last comes back first: a better type, then beams, then batches."""
        if self.weights.upgrade():
            return
        if self.backoff.limited and self.weights.placement.has_room_for(self.backoff.batch):
            self.backoff.relax()

    def for_request(
        self,
        context: RequestContext,
        tokens: TaskTokens,
        *,
        adaptive: bool = False,
        languages: Sequence[str] = (),
        replay: Replay | None = None,
    ) -> RequestModel:
        """Raises EngineFailed for a model that is closed."""
        self._batcher.check_open()
        queue = self._batcher if replay is None else replay.over(self._batcher)
        return RequestModel(self.model, self._facts, queue, context, tokens, adaptive=adaptive, languages=languages)

    @property
    def capacity(self) -> int:
        """How many windows can be worked on at a time."""
        return int(self.model.num_workers) * self.backoff.batch

    @property
    def queued(self) -> int:
        return self._batcher.queued

    @property
    def statistics(self) -> BatchStatistics:
        return self._batcher.statistics

    @property
    def healthy(self) -> bool:
        return self._batcher.healthy

    def close(self) -> None:
        """End the workers and free the weights now, not with the last reference."""
        self._batcher.close()
        self.weights.release()


@dataclass(frozen=True, slots=True)
class TaskTokens:
    start_of_transcript: int
    end_of_text: int
    no_timestamps: int


@dataclass(frozen=True, slots=True)
class _ShortWindow:
    """The full features behind a short encoder output, in case that it has to be done again."""

    output: StorageView
    features: StorageView
    seconds: float


@dataclass(slots=True)
class Attempt:
    """One decoding of a window: `transcribe()` may want several and keeps the best."""

    output: StorageView
    prompt: list[int]
    result: Any
    length_penalty: float
    probabilities: list[float] | None = None

    @property
    def tokens(self) -> list[int]:
        tokens: list[int] = self.result.sequences_ids[0]
        return tokens

    @property
    def average(self) -> float:
        """The average log probability as faster-whisper counts it, which tells a segment's attempt from others."""
        length = len(self.tokens)
        average: float = self.result.scores[0] * length**self.length_penalty / (length + 1)
        return average

    def find(self, tokens: Sequence[int]) -> int:
        """Return where the tokens stand in this attempt's, or -1."""
        places = range(len(self.tokens) - len(tokens) + 1)
        return next((i for i in places if self.tokens[i : i + len(tokens)] == list(tokens)), -1)


class RequestModel:
    """One request's view of the model: what faster-whisper takes for a `ctranslate2.models.Whisper`.

    With `adaptive`, encoder windows are as long as the audio needs (adaptive_window.py). Language detection chooses
    among `languages`, if there are any.
    """

    def __init__(
        self,
        model: ctranslate2.models.Whisper,
        facts: Mapping[str, Any],
        queue: Queue,
        context: RequestContext,
        tokens: TaskTokens,
        *,
        adaptive: bool,
        languages: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._facts = facts
        self._queue = queue
        self._context = context
        self._tokens = tokens
        self._adaptive = adaptive
        self._languages = languages
        self._attempts: list[Attempt] = []
        self._short: _ShortWindow | None = None
        self._redone: StorageView | None = None
        self.redone_windows = 0

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model has: `is_multilingual`, `device`, `device_index` …"""
        return self._facts[name] if name in _FACTS else getattr(self._model, name)

    def encode(self, features: StorageView, to_cpu: bool = False) -> StorageView:
        self._context.renew()
        self._short = self._redone = None
        self._attempts = []
        if self._adaptive and (short := adaptive_window.shortened(np.asarray(features))) is not None:
            window, seconds = short
            output = self._encode(StorageView.from_array(window))
            self._short = _ShortWindow(output, features, seconds)
            return output
        return self._encode(features)

    def _encode(self, features: StorageView) -> StorageView:
        output: StorageView = self._call(_Encode(features.shape[2]), features)
        return output

    def generate(self, features: StorageView, prompts: list[list[int]], **options: Any) -> list[Any]:
        (prompt,) = prompts
        result = self._guarded(features, prompt, options)
        self._attempts.append(Attempt(features, prompt, result, options.get("length_penalty", 1.0)))
        return [result]

    def _guarded(self, features: StorageView, prompt: list[int], options: dict[str, Any]) -> Any:
        """The result, or that of the full window if a short one gave a suspicious one."""
        result = self._generate(self._latest(features), prompt, options)
        short = self._short
        if short is None or self._redone is not None or short.output is not features:
            return result
        penalty = options.get("length_penalty", 1.0)
        if not adaptive_window.suspicious(result, short.seconds, penalty, self._tokens.end_of_text):
            return result
        self.redone_windows += 1
        self._redone = self._encode(short.features)
        return self._generate(self._redone, prompt, options)

    def _generate(self, output: StorageView, prompt: list[int], options: dict[str, Any]) -> Any:
        start = prompt.index(self._tokens.start_of_transcript)
        length = max(i for i, token in enumerate(prompt) if token >= self._tokens.end_of_text) + 1
        return self._call(_Generate(output.shape[1], start, length, _hashable(options)), (output, prompt))

    def _latest(self, output: StorageView) -> StorageView:
        """The encoder output that stands for this one since its window was done again."""
        if self._short is not None and self._redone is not None and output is self._short.output:
            return self._redone
        return output

    def detect_language(self, features: StorageView) -> list[Any]:
        found = self._call(_DetectLanguage(features.shape[1]), features)
        return [_among(self._languages, found) if self._languages else found]

    def token_probabilities(self, tokens: Sequence[int], avg_logprob: float) -> list[float]:
        """Return how likely each text token of a segment of the latest window is, after the window's text before it.

        These are the probabilities behind those of words: by the alignment, without timestamps and earlier windows.
        """
        attempt = min(
            (attempt for attempt in self._attempts if attempt.find(tokens) >= 0),
            key=lambda attempt: abs(attempt.average - avg_logprob),
        )
        if attempt.probabilities is None:
            attempt.probabilities = self._aligned(attempt)
        start = attempt.find(tokens)
        before, inside = (self._text(part) for part in (attempt.tokens[:start], tokens))
        return attempt.probabilities[len(before) : len(before) + len(inside)]

    def _aligned(self, attempt: Attempt) -> list[float]:
        prompt = attempt.prompt[attempt.prompt.index(self._tokens.start_of_transcript) :]
        task = [t for t in prompt if self._tokens.start_of_transcript <= t < self._tokens.no_timestamps]
        text = self._text(attempt.tokens)
        if not text:
            return []
        (aligned,) = self.align(attempt.output, task, [text], attempt.output.shape[1] * 2)
        probabilities: list[float] = aligned.text_token_probs
        return probabilities

    def _text(self, tokens: Sequence[int]) -> list[int]:
        return [token for token in tokens if token < self._tokens.end_of_text]

    def align(
        self,
        features: StorageView,
        start_sequence: Sequence[int],
        text_tokens: list[list[int]],
        num_frames: int,
        **options: Any,
    ) -> list[Any]:
        (tokens,) = text_tokens
        output = self._latest(features)
        call = _Align(output.shape[1], tuple(start_sequence), _hashable(options))
        return [self._call(call, (output, tokens, num_frames))]

    def _call(self, call: _Call, payload: Any) -> Any:
        return self._queue.call(call, payload, self._context)


def _among(languages: Sequence[str], found: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """What was found, such as `("<|en|>", 0.9)`, of these languages only, with probabilities that add up to 1."""
    candidates = [(token, probability) for token, probability in found if token[2:-2] in languages]
    total = sum(probability for _, probability in candidates) or 1.0
    return [(token, probability / total) for token, probability in candidates]


def _hashable(options: dict[str, Any]) -> Options:
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(options.items()))


def _stacked(views: Sequence[StorageView]) -> StorageView:
    if len(views) == 1:
        return views[0]
    return StorageView.from_array(np.concatenate([_as_array(view) for view in views]))


def _unstacked(view: StorageView, count: int) -> list[StorageView]:
    if count == 1:
        return [view]
    array = _as_array(view)
    return [StorageView.from_array(array[i : i + 1].copy()) for i in range(count)]


def _as_array(view: StorageView) -> Any:
    """bfloat16 has no array interface and goes through float32."""
    if view.dtype == ctranslate2.DataType.bfloat16:
        view = view.to(ctranslate2.DataType.float32)
    return np.asarray(view)
