"""A model that is loaded, wherever its weights are at the moment."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from copy import copy
from threading import Lock, Thread

from faster_whisper import WhisperModel

from whisper_server.inference.hardware.memory_plan import Plan
from whisper_server.inference.models.catalogue import REPOSITORIES
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.runtime.batched_model import BatchedModel
from whisper_server.inference.runtime.journal import Replay
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff
from whisper_server.inference.runtime.request_model import TaskTokens
from whisper_server.inference.runtime.weights import Weights

logger = logging.getLogger(__name__)


class LoadedModel:
    """A model and its workers. `memory` is what loading it added to the device, in bytes; `id` is its name for clients.

    `whisper` is faster-whisper's model itself, which knows nothing of the queue; requests work with `whisper_for`.
    """

    def __init__(self, name: str, weights: Weights, backoff: MemoryBackoff, plan: Plan) -> None:
        self.name = name
        self.id = public_id(name)
        self.plan = plan
        self.loaded_at = int(time.time())
        self.memory = 0
        self.users = 0
        self.keep_alive: float | None = None
        self.unwanted = False
        self.weights = weights
        self.whisper = whisper = weights.whisper
        token = whisper.hf_tokenizer.token_to_id
        self._tokens = TaskTokens(token("<|startoftranscript|>"), token("<|endoftext|>"), token("<|notimestamps|>"))
        self.batched = BatchedModel(weights, backoff)
        self._later: Thread | None = None
        self._waking = Lock()

    def __str__(self) -> str:
        memory = f", {self.memory / 1e6:.0f} MB" if self.memory else ""
        return f"{self.name} ({self.weights.placement}{memory})"

    @property
    def on_card(self) -> bool:
        return self.weights.placement.device.kind != "cpu"

    def is_called(self, name: str) -> bool:
        """Whether a client that says this name means this model."""
        return name == self.id or same_repository(name, self.name)

    def whisper_for(
        self,
        context: RequestContext,
        *,
        encoder_window: str = "full",
        languages: Sequence[str] = (),
        replay: Replay | None = None,
    ) -> WhisperModel:
        """Return a faster-whisper model whose engine calls queue up under this ticket, unless the replay knows them."""
        whisper = copy(self.whisper)
        whisper.model = self.batched.for_request(
            context, self._tokens, adaptive=encoder_window == "adaptive", languages=languages, replay=replay
        )
        return whisper

    def wake(self) -> None:
        """Bring the weights back from wherever they are; raises OutOfMemory."""
        with self._waking:
            if (before := self.weights.state) == "loaded":
                return
            logger.info("loading %s again, which was %s", self.name, before)
            started = time.monotonic()
            self.weights.resume()
            logger.info("loaded %s in %.1f s", self, time.monotonic() - started)
            self.wait_until_improved()
            self.later(self.weights.load_low_latency_model)

    def later(self, work: Callable[[], None]) -> None:
        """Do what improves this model while it serves already; closing it waits for that."""
        self._later = Thread(target=work, name=f"improve {self.name}", daemon=True)
        self._later.start()

    def wait_until_improved(self) -> None:
        if self._later is not None:
            self._later.join()

    def close(self) -> None:
        self.wait_until_improved()
        self.batched.close()


def same_repository(name: str, other: str) -> bool:
    """Names of one repository are names of one model."""
    return REPOSITORIES.get(name, name) == REPOSITORIES.get(other, other)


def public_id(name: str) -> str:
    """The name, or the last part of an operator's path, which is not for clients to know."""
    path = os.path.expanduser(name)
    return os.path.basename(os.path.normpath(path)) if os.path.isdir(path) else name
