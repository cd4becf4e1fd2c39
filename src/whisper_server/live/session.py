"""One live session: samples go in, events come out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from whisper_server.live.events import Event


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """`endpoint_ms` of silence end an utterance; None leaves that to flush(). `partials` are the pending words.

    Without a `language` a multilingual model finds it in the first utterance. `prompt` is text that the model may take
    the audio for a continuation of. `threshold` is the probability from which on sound is speech, and an utterance
    begins `prefix_ms` before it.
    """

    language: str | None = None
    prompt: str = ""
    endpoint_ms: int | None = 500
    threshold: float = 0.5
    prefix_ms: int = 300
    model: str = ""
    partials: bool = True


class Session:
    """An asynchronous context manager: leaving it cancels its work and frees everything at once.

    Iterating it yields the events, for one consumer; it raises the WhisperServerError that ended the session, if any.
    """

    async def __aenter__(self) -> Session:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def feed(self, samples: NDArray[np.float32]) -> None:
        """Take mono samples at 16 kHz, however many; waits while more than 10 seconds are undecoded."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Finish the utterance now; one Final answers."""
        raise NotImplementedError

    async def end(self) -> None:
        """Finish the utterance; nothing follows its Final but Ended."""
        raise NotImplementedError

    async def clear(self) -> None:
        """Forget the audio that no Final has answered yet."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Event]:
        raise NotImplementedError
