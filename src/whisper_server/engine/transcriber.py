"""The async face of the blocking code: threads, and the end of work that nobody waits for."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Any, BinaryIO, TypeAlias, TypeVar, get_args

from anyio import CapacityLimiter, fail_after, from_thread, to_thread
from faster_whisper.transcribe import Segment

from whisper_server.core.errors import DeadlinePassed, ModelNotFound
from whisper_server.engine.admission import Admission
from whisper_server.inference.audio.decoder import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import Priority, RequestContext
from whisper_server.inference.runtime.journal import Journal, Replay
from whisper_server.inference.runtime.memory_backoff import STEPS
from whisper_server.inference.runtime.weights import WeightState
from whisper_server.inference.transcription.chunked import CHUNK_LIMITS, Samples, transcribe_chunked
from whisper_server.inference.transcription.sequential import (
    OnSegment,
    Transcript,
    check_candidates,
    check_language,
    ignore,
    transcribe,
)
from whisper_server.inference.transcription.streaming import DecodeWindow, Hypothesis, decode_window

__all__ = ["WEIGHT_STATES", "STEPS", "Engine", "LoadedModel", "Statistics"]

logger = logging.getLogger(__name__)

WEIGHT_STATES: tuple[WeightState, ...] = get_args(WeightState)

T = TypeVar("T")

AsyncOnSegment: TypeAlias = Callable[[Segment], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The current model; of all that are loaded their memory in bytes, calls that wait, batches and calls in them.

    `place` is where the current one's weights are, `steps` counts what it gave up as memory ran out, and got back.
    """

    model: str
    device: str = ""
    compute_type: str = ""
    memory: int = 0
    queued: int = 0
    batches: int = 0
    calls: int = 0
    crashes: int = 0
    weight_state: WeightState = "released"
    steps: Mapping[str, int] = field(default_factory=dict)


def _uncounted(audio_seconds: float, seconds: float) -> None:
    pass


class Engine:
    """`transcribed` is told how long each audio was and how long it took, in seconds, from any thread."""

    def __init__(
        self,
        models: ModelManager,
        decoder: AudioDecoder,
        admission: Admission,
        *,
        transcribed: Callable[[float, float], None] = _uncounted,
    ) -> None:
        self._models = models
        self._decoder = decoder
        self._admission = admission
        self._transcribed = transcribed
        # Every request that is admitted gets a thread, so that none waits for another's whole file.
        self._transcriptions = CapacityLimiter(math.inf)
        self._reloads = CapacityLimiter(1)
        self._unloads = CapacityLimiter(1)

    @property
    def ready(self) -> bool:
        """Whether requests are served, if need be after loading."""
        return all(model.batched.healthy for model in self._models.loaded[:1])

    @property
    def loading(self) -> str:
        """The name of the model that is being loaded, or nothing."""
        return self._models.loading or (self._models.name if self._models.weight_state == "loading" else "")

    @property
    def audio_seconds(self) -> float:
        """How much audio the requests brought that are here now."""
        return self._admission.audio_seconds

    def wake(self) -> None:
        """Begin to load the model, if it is not, while the request for it is still arriving."""
        if self._models.weight_state in ("parked", "released"):
            Thread(target=self._models.preload, name="wake the model", daemon=True).start()

    def statistics(self) -> Statistics:
        if not self._models.loaded:
            return Statistics(model=self._models.name, weight_state=self._models.weight_state)
        model, loaded = self._models.current, self._models.loaded
        queues = [each.batched.statistics for each in loaded]
        return Statistics(
            model=model.name,
            device=str(model.batched.model.device),
            compute_type=model.weights.compute_type,
            memory=sum(each.memory for each in loaded),
            queued=sum(each.batched.queued for each in loaded),
            batches=sum(queue.batches for queue in queues),
            calls=sum(queue.items for queue in queues),
            crashes=sum(queue.crashes for queue in queues),
            weight_state=model.weights.state,
            steps=dict(model.batched.backoff.steps),
        )

    def check_room(self) -> None:
        """Say before an upload is read that it would be in vain; raises Overloaded."""
        self._admission.check_room()

    def admit(self, priority: Priority = Priority.INTERACTIVE) -> AbstractContextManager[RequestContext]:
        """Take a request on whose upload is here; raises Overloaded."""
        return self._admission.admit(priority)

    @contextmanager
    def background(self) -> Iterator[RequestContext]:
        """Yield the ticket of work that nobody waits for with an open connection; it takes no request's place."""
        context = RequestContext(Priority.BACKGROUND)
        try:
            yield context
        finally:
            context.cancel()

    async def decode(self, context: RequestContext, file: BinaryIO) -> Samples:
        """Return the file's samples; raises BadAudio or AudioTooLong."""
        try:
            work = partial(self._decoder.decode, file, context)
            return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._transcriptions)
        except BaseException:
            context.cancel()
            raise

    async def transcribe_samples(
        self,
        context: RequestContext,
        audio: Samples,
        options: Mapping[str, Any],
        *,
        timeout: float = 0.0,
        **handling: Any,
    ) -> Transcript:
        """As `transcribe()`, of what `decode` has returned; `on_segment` and `on_progress` are called in threads.

        With a `journal` nothing is decoded again whose answer stands in that.
        """
        return await self._in_thread(
            context, partial(self._transcribe_samples, context, audio, options, **handling), timeout=timeout
        )

    async def transcribe(
        self,
        context: RequestContext,
        file: BinaryIO,
        options: Mapping[str, Any],
        *,
        encoder_window: str = "full",
        mode: str = "sequential",
        timeout: float = 0.0,
        model: str = "",
        languages: Sequence[str] = (),
        keep_alive: float | None = None,
        scores: bool = False,
        on_segment: AsyncOnSegment | None = None,
    ) -> Transcript:
        """Decode the file and transcribe it with `options` of `WhisperModel.transcribe()`.

        If the caller is cancelled, or the timeout in seconds passes (DeadlinePassed), the thread stops at the next
        window. The model stays for `keep_alive` seconds after that. `languages` are the codes to choose among; `scores`
        makes ScoredSegments. Each segment is awaited with `on_segment` as soon as it is decoded; the thread decodes no
        further until that returns.
        """
        told = ignore if on_segment is None else _told_in_loop(context, on_segment)
        work = partial(
            self._transcribe,
            context,
            file,
            options,
            encoder_window=encoder_window,
            mode=mode,
            model=model,
            languages=languages,
            keep_alive=keep_alive,
            scores=scores,
            on_segment=told,
        )
        return await self._in_thread(context, work, timeout=timeout)

    async def _in_thread(self, context: RequestContext, work: Callable[[], T], *, timeout: float = 0.0) -> T:
        """Return what a request's last piece of work does; its ticket ends with it, or with whoever waits for it."""
        try:
            with fail_after(timeout or None):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._transcriptions)
        except TimeoutError as exc:
            raise DeadlinePassed(timeout) from exc
        finally:
            context.cancel()

    def _transcribe(
        self, context: RequestContext, file: BinaryIO, options: Mapping[str, Any], *, model: str, **handling: Any
    ) -> Transcript:
        started = time.monotonic()
        self._models.check(model)
        audio = self._decoder.decode(file, context)
        self._admission.bring(context, len(audio) / SAMPLE_RATE)
        return self._transcribe_samples(context, audio, options, model=model, started=started, **handling)

    def _transcribe_samples(
        self,
        context: RequestContext,
        audio: Samples,
        options: Mapping[str, Any],
        *,
        encoder_window: str = "full",
        mode: str = "sequential",
        model: str = "",
        languages: Sequence[str] = (),
        keep_alive: float | None = None,
        journal: Journal | None = None,
        started: float | None = None,
        **output: Any,
    ) -> Transcript:
        started = started or time.monotonic()
        replay = Replay(journal) if journal is not None else None
        with self._models.lease(model, keep_alive=keep_alive) as leased:
            check_candidates(leased.whisper_for(context), languages)
            whisper_for = partial(leased.whisper_for, encoder_window=encoder_window, languages=languages, replay=replay)
            if mode == "batched":
                in_pieces = partial(
                    transcribe_chunked, at_once=leased.batched.capacity, lengths=CHUNK_LIMITS[encoder_window]
                )
                transcript = in_pieces(whisper_for, context, audio, options, **output)
            else:
                transcript = transcribe(whisper_for(context), audio, options, **output)
        seconds = time.monotonic() - started
        logger.info("%s transcribed %.1f s of audio in %.2f s", leased.name, transcript.duration, seconds)
        self._transcribed(transcript.duration, seconds)
        return transcript

    def check_session(self, model: str, language: str | None) -> None:
        """Say, as far as it is known, before a session begins that it would fail; raises ModelNotFound or BadOption."""
        self._models.check(model)
        with suppress(ModelNotFound):  # it is loaded on demand
            if self._models.loaded:
                check_language(self._models.find(model).whisper_for(RequestContext()), language)

    async def decode_window(self, passage: DecodeWindow, *, model: str = "") -> Hypothesis:
        """Decode a passage of a live session before everything else that waits.

        The model is leased for this passage only, so that no session keeps a model from being replaced. If the caller
        is cancelled, what waits is dropped at once and what runs ends within one window.
        """
        context = RequestContext(Priority.LIVE)
        return await self._in_thread(context, partial(self._decode_window, context, passage, model))

    def _decode_window(self, context: RequestContext, passage: DecodeWindow, name: str) -> Hypothesis:
        with self._models.lease(name) as model:
            whisper = model.whisper_for(context, encoder_window="adaptive")
            check_language(whisper, passage.language)
            return decode_window(whisper, passage)

    @property
    def models(self) -> list[LoadedModel]:
        """The model that is served, once it was loaded, and those that were loaded on demand."""
        return self._models.loaded

    @property
    def name(self) -> str:
        """That of the model that is served."""
        return self._models.name

    def called(self, name: str) -> str:
        """Return the id of the model that a request of that name gets; raises ModelNotFound."""
        return self._models.id_for(name)

    def serves(self, name: str) -> bool:
        """Whether a request may name that model."""
        try:
            self._models.check(name)
        except ModelNotFound:
            return False
        return True

    def model(self, name: str) -> LoadedModel:
        """Return the loaded model of that name; raises ModelNotFound."""
        return self._models.find(name)

    async def unload(self, name: str) -> str:
        """Let go of a model that was loaded on demand and return its id; raises ModelNotFound or ModelIsServed."""
        return await to_thread.run_sync(self._models.unload, name, limiter=self._unloads)

    async def release(self, name: str) -> LoadedModel | None:
        """Drop a model's weights until somebody asks for it; those who use it finish first. Raises ModelNotFound."""
        return await to_thread.run_sync(self._models.release, name, limiter=self._unloads)

    async def reload(self, name: str) -> LoadedModel:
        """Swap in the model of that name; requests in flight finish on the one they have."""
        return await to_thread.run_sync(self._models.reload, name, limiter=self._reloads)


def _told_in_loop(context: RequestContext, on_segment: AsyncOnSegment) -> OnSegment:
    """The callback for the thread, which waits until the event loop has taken the segment."""

    def tell(segment: Segment) -> None:
        context.check()
        from_thread.run(on_segment, segment)

    return tell
