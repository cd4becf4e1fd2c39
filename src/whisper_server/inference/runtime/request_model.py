"""One request's stand-in for `ctranslate2.models.Whisper`, for use below faster-whisper's `transcribe()`.

faster-whisper calls `encode`, `generate`, `detect_language` and `align` on it, always for one window. The calls of all
requests go through one queue, where equal ones run as a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime import adaptive_window, calls


@dataclass(frozen=True, slots=True)
class TaskTokens:
    """The ids of a vocabulary's tokens around a task."""

    start_of_transcript: int
    end_of_text: int
    no_timestamps: int


@dataclass(frozen=True, slots=True)
class _ShortWindow:
    """A short window's encoder output, and the full features in case it must be decoded again."""

    output: StorageView
    features: StorageView
    seconds: float


@dataclass(slots=True)
class Attempt:
    """One decoding of a window: `transcribe()` may make several at different temperatures and keeps the best."""

    output: StorageView
    prompt: list[int]
    tokens: list[int]
    avg_logprob: float
    probabilities: list[float] | None = None

    def index_of(self, tokens: Sequence[int]) -> int:
        """Return where these tokens begin in the attempt's, or -1."""
        starts = range(len(self.tokens) - len(tokens) + 1)
        return next((i for i in starts if self.tokens[i : i + len(tokens)] == list(tokens)), -1)


@dataclass(eq=False)
class RequestModel:
    """What faster-whisper takes for a `ctranslate2.models.Whisper`. Its methods belong to one thread at a time.

    With `adaptive`, encoder windows are only as long as the audio needs (adaptive_window.py). If `languages` are
    given, language detection chooses among these codes. `attributes` are those of the model that must be readable
    while its weights are not loaded. All calls raise Cancelled, EngineFailed or OutOfMemory.
    """

    model: ctranslate2.models.Whisper
    attributes: Mapping[str, Any]
    executor: calls.CallExecutor
    context: RequestContext
    tokens: TaskTokens
    _: KW_ONLY
    adaptive: bool
    languages: Sequence[str] = ()
    redecoded_windows: int = field(default=0, init=False)
    _attempts: list[Attempt] = field(default_factory=list, init=False)
    _short: _ShortWindow | None = field(default=None, init=False)
    _full_output: StorageView | None = field(default=None, init=False)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the model: `is_multilingual`, `device`, `device_index` …"""
        return self.attributes[name] if name in self.attributes else getattr(self.model, name)

    def encode(self, features: StorageView, to_cpu: bool = False) -> StorageView:
        """Start a new window: encode features of shape (1, mels, frames) to shape (1, ceil(frames / 2), width).

        The output is in RAM whatever `to_cpu` says. An adaptive window has fewer frames than the features.
        """
        self.context.renew()
        self._short = self._full_output = None
        self._attempts = []
        if self.adaptive and (short := adaptive_window.shorten(np.asarray(features))) is not None:
            window, seconds = short
            output = self._encode(StorageView.from_array(window))
            self._short = _ShortWindow(output, features, seconds)
            return output
        return self._encode(features)

    def generate(self, features: StorageView, prompts: list[list[int]], **options: Any) -> list[Any]:
        """Decode the latest window, whose encoder output is `features`, with one prompt; returns one generation result.

        If a short window gives a suspicious result, it is decoded again with the full window, as are all later calls.
        """
        (prompt,) = prompts
        penalty = options.get("length_penalty", 1.0)
        result = self._generate(self._current_output(features), prompt, options)
        if (full := self._features_to_redecode(features, result, penalty)) is not None:
            self.redecoded_windows += 1
            self._full_output = self._encode(full)
            result = self._generate(self._full_output, prompt, options)
        attempt = Attempt(features, prompt, result.sequences_ids[0], calls.avg_logprob(result, penalty))
        self._attempts.append(attempt)
        return [result]

    def detect_language(self, features: StorageView) -> list[Any]:
        """Return one list of pairs such as `("<|en|>", 0.9)`, the likeliest first, for an encoder output."""
        languages = self._call(calls.DetectLanguage(features.shape[1]), features)
        return [_restrict(languages, self.languages) if self.languages else languages]

    def align(
        self,
        features: StorageView,
        start_sequence: Sequence[int],
        text_tokens: list[list[int]],
        num_frames: int,
        **options: Any,
    ) -> list[Any]:
        """Align one text with an encoder output, of which `num_frames` mel frames are audio; returns one result."""
        (tokens,) = text_tokens
        output = self._current_output(features)
        call = calls.Align(output.shape[1], tuple(start_sequence), calls.hashable_options(options))
        return [self._call(call, (output, tokens, num_frames))]

    def token_probabilities(self, tokens: Sequence[int], avg_logprob: float) -> list[float]:
        """Return the probability, 0 to 1, of each text token of a segment of the latest window.

        They come from the alignment, as those of words do: each is given the window's text before it, without
        timestamps and earlier windows. Raises ValueError for a segment of another window.
        """
        attempt = min(
            (attempt for attempt in self._attempts if attempt.index_of(tokens) >= 0),
            key=lambda attempt: abs(attempt.avg_logprob - avg_logprob),
        )
        if attempt.probabilities is None:
            attempt.probabilities = self._align_attempt(attempt)
        start = attempt.index_of(tokens)
        before, inside = (self._text_tokens(part) for part in (attempt.tokens[:start], tokens))
        return attempt.probabilities[len(before) : len(before) + len(inside)]

    def _encode(self, features: StorageView) -> StorageView:
        return self._call(calls.Encode(features.shape[2]), features)

    def _generate(self, output: StorageView, prompt: list[int], options: dict[str, Any]) -> Any:
        start = prompt.index(self.tokens.start_of_transcript)
        length = max(i for i, token in enumerate(prompt) if token >= self.tokens.end_of_text) + 1
        call = calls.Generate(output.shape[1], start, length, calls.hashable_options(options))
        return self._call(call, (output, prompt))

    def _features_to_redecode(self, output: StorageView, result: Any, length_penalty: float) -> StorageView | None:
        """Return the full window's features if the result is a short window's and suspicious."""
        short = self._short
        if short is None or self._full_output is not None or short.output is not output:
            return None
        end_of_text = self.tokens.end_of_text
        suspicious = adaptive_window.is_suspicious(result, short.seconds, length_penalty, end_of_text)
        return short.features if suspicious else None

    def _current_output(self, output: StorageView) -> StorageView:
        """Return the full window's encoder output instead of the short one's, once there is one."""
        if self._short is not None and self._full_output is not None and output is self._short.output:
            return self._full_output
        return output

    def _align_attempt(self, attempt: Attempt) -> list[float]:
        """Return the probability of each text token of the attempt."""
        prompt = attempt.prompt[attempt.prompt.index(self.tokens.start_of_transcript) :]
        task = [t for t in prompt if self.tokens.start_of_transcript <= t < self.tokens.no_timestamps]
        text = self._text_tokens(attempt.tokens)
        if not text:
            return []
        (aligned,) = self.align(attempt.output, task, [text], attempt.output.shape[1] * 2)
        return list(aligned.text_token_probs)

    def _text_tokens(self, tokens: Sequence[int]) -> list[int]:
        return [token for token in tokens if token < self.tokens.end_of_text]

    def _call(self, call: calls.Call, payload: Any) -> Any:
        return self.executor.call(call, payload, self.context)


def _restrict(probabilities: Sequence[tuple[str, float]], languages: Sequence[str]) -> list[tuple[str, float]]:
    """Keep the pairs of these languages and scale their probabilities to a sum of 1."""
    candidates = [(token, probability) for token, probability in probabilities if token[2:-2] in languages]
    total = sum(probability for _, probability in candidates) or 1.0
    return [(token, probability / total) for token, probability in candidates]
