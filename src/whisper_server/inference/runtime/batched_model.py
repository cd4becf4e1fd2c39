"""One model for all requests: batches their calls, and does less at a time where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from typing import Any

from faster_whisper import WhisperModel

from whisper_server.core.errors import OutOfMemory
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.batcher import DynamicBatcher
from whisper_server.inference.runtime.calls import Call, CallExecutor, Encode, Generate
from whisper_server.inference.runtime.journal import JournaledCalls, Replay
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff, is_out_of_memory
from whisper_server.inference.runtime.request_model import RequestModel, TaskTokens
from whisper_server.inference.runtime.weights import Placement, Weights

logger = logging.getLogger(__name__)

# CTranslate2 reports these only while the weights are loaded, but requests read them at any time.
_CACHED_ATTRIBUTES = ("is_multilingual", "n_mels", "num_languages")


class BatchedModel:
    """The weights, the `batcher` of calls in front of them, and the limits that memory sets.

    `whisper` is faster-whisper's model itself, which bypasses the batcher; requests use `whisper_for`.
    """

    def __init__(self, weights: Weights, backoff: MemoryBackoff) -> None:
        self.weights = weights
        self.backoff = backoff
        self.whisper = weights.whisper
        token = self.whisper.hf_tokenizer.token_to_id
        self._tokens = TaskTokens(token("<|startoftranscript|>"), token("<|endoftext|>"), token("<|notimestamps|>"))
        self._attributes = {name: getattr(weights.model, name) for name in _CACHED_ATTRIBUTES}
        self.batcher = DynamicBatcher[Call, Any, Any](
            self._run, workers=weights.model.num_workers, max_batch_size=self._max_batch_size
        )

    @property
    def capacity(self) -> int:
        """The number of windows that can be processed at the same time."""
        return int(self.weights.model.num_workers) * self.backoff.max_batch_size

    def whisper_for(
        self,
        context: RequestContext,
        *,
        encoder_window: str = "full",
        languages: Sequence[str] = (),
        replay: Replay | None = None,
    ) -> WhisperModel:
        """Return a faster-whisper model for one request, whose calls are batched with those of other requests.

        Language detection chooses among `languages`, if there are any. Calls whose results are in the journal of
        `replay` are not run again. Raises EngineFailed if the model is closed.
        """
        self.batcher.check_open()
        executor: CallExecutor = self.batcher if replay is None else JournaledCalls(self.batcher, replay)
        adaptive = encoder_window == "adaptive"
        whisper = copy(self.whisper)
        whisper.model = RequestModel(
            self.weights.model,
            self._attributes,
            executor,
            context,
            self._tokens,
            adaptive=adaptive,
            languages=languages,
        )
        return whisper

    def close(self) -> None:
        """End the workers and free the weights now, not with the last reference."""
        self.batcher.close()
        self.weights.release()

    def _max_batch_size(self, call: Call) -> int:
        """Batches of encoders pay off on a GPU only: on a CPU a batch takes as long as its windows one by one.

        docs/performance.md has the measurement.
        """
        if self.weights.model.device == "cpu" and isinstance(call, Encode):
            return 1
        return self.backoff.max_batch_size

    def _run(self, call: Call, payloads: list[Any], otherwise_idle: bool) -> Sequence[Any]:
        if isinstance(call, Generate):
            call = call.with_max_beam_size(self.backoff.max_beam_size)
        placement = self.weights.placement
        try:
            with self.weights.using(low_latency=otherwise_idle) as model:
                placement = self.weights.placement
                results = call.run(model, payloads)
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            return self._run_with_less_memory(call, payloads, placement, exc)
        if self.backoff.record_success():
            self._recover()
        return results

    def _run_with_less_memory(
        self, call: Call, payloads: list[Any], placement: Placement, exc: Exception
    ) -> Sequence[Any]:
        """Halve the batch, then the beams, then fall back to smaller weights; raises OutOfMemory after the last."""
        count = len(payloads)
        logger.debug("a batch of %d failed on %s: %s", count, placement, exc)
        if count > 1:
            self.backoff.lower_batch_size(count)
            halves = payloads[: count // 2], payloads[count // 2 :]
            return [result for half in halves for result in self._run(call, half, otherwise_idle=False)]
        if isinstance(call, Generate) and call.beam_size > 1:
            self.backoff.lower_beam_size(call.beam_size)
        elif not self.weights.fall_back(placement):
            raise OutOfMemory from exc
        return self._run(call, payloads, otherwise_idle=False)

    def _recover(self) -> None:
        """Restore what was given up, in reverse order: a better placement, then beams, then batches."""
        if self.weights.upgrade():
            return
        if self.backoff.limited and self.weights.placement.has_room_for(self.backoff.max_batch_size):
            self.backoff.relax()
