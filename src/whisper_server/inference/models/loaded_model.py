"""A model with a name, a memory plan and a number of users."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock, Thread

from whisper_server.inference.hardware.memory_plan import Plan
from whisper_server.inference.models.model_names import names_of, public_id
from whisper_server.inference.runtime.batched_model import BatchedModel
from whisper_server.inference.runtime.memory_backoff import MemoryBackoff
from whisper_server.inference.runtime.weights import Weights

logger = logging.getLogger(__name__)


class LoadedModel(BatchedModel):
    """A model that is loaded, or was and can be loaded again.

    `id` is its name for clients, one of its canonical `names`. `memory` is what loading it added, in bytes.
    """

    def __init__(self, name: str, weights: Weights, backoff: MemoryBackoff, plan: Plan) -> None:
        super().__init__(weights, backoff)
        self.name = name
        self.id = public_id(name)
        self.names = names_of(name)
        self.plan = plan
        self.loaded_at = int(time.time())
        self.memory = 0
        self.users = 0
        self.keep_alive: float | None = None
        self.release_when_idle = False
        self._background: Thread | None = None
        self._load_lock = Lock()

    def __str__(self) -> str:
        memory = f", {self.memory / 1e6:.0f} MB" if self.memory else ""
        return f"{self.name} ({self.weights.placement}{memory})"

    @property
    def on_gpu(self) -> bool:
        return self.weights.placement.device.kind != "cpu"

    def matches(self, name: str) -> bool:
        """Whether a client that sends this canonical name means this model."""
        return name in self.names

    def ensure_loaded(self) -> None:
        """Load the weights again if they were offloaded or released; raises OutOfMemory."""
        with self._load_lock:
            if (state := self.weights.state) == "loaded":
                return
            logger.info("loading %s again, which was %s", self.name, state)
            started = time.monotonic()
            self.weights.resume()
            logger.info("loaded %s in %.1f s", self, time.monotonic() - started)
            self.wait_for_background()
            self.run_in_background(self.weights.load_low_latency_model)

    def run_in_background(self, work: Callable[[], None]) -> None:
        """Run work in a thread while the model serves requests; `close` waits for it."""
        self._background = Thread(target=work, name=f"load more of {self.name}", daemon=True)
        self._background.start()

    def wait_for_background(self) -> None:
        if self._background is not None:
            self._background.join()

    def close(self) -> None:
        self.wait_for_background()
        super().close()
