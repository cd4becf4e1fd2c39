"""Transcription for the event loop: threads, admission, and cancellation of work that nobody waits for."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, Literal, TypeAlias, TypeVar

from anyio import CapacityLimiter, fail_after, from_thread, to_thread
from faster_whisper.vad import VadOptions

from whisper_server.core.errors import DeadlinePassed, ModelNotFound
from whisper_server.engine.admission import Admission
from whisper_server.inference.alignment.aligner import TRANSCRIPTION_OPTIONS, Aligner, Alignment, long_enough
from whisper_server.inference.alignment.text import SegmentUnit
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.splitting import SpeechActivity, detect_speech
from whisper_server.inference.audio.waveform import SAMPLE_RATE, SpooledWaveform, Waveform
from whisper_server.inference.hardware.malloc import release_freed_memory
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import Priority, RequestContext
from whisper_server.inference.runtime.journal import Journal, Replay
from whisper_server.inference.transcription.chunked import CHUNK_LIMITS, transcribe_chunked
from whisper_server.inference.transcription.language_detection import detect_language
from whisper_server.inference.transcription.segments import Segment
from whisper_server.inference.transcription.sequential import (
    OnProgress,
    OnSegment,
    Transcript,
    check_candidates,
    check_language,
    ignore,
    transcribe,
)
from whisper_server.inference.transcription.streaming import DecodeWindow, Hypothesis, decode_window

logger = logging.getLogger(__name__)

_LONG_AUDIO = 600 * SAMPLE_RATE

T = TypeVar("T")

AsyncOnSegment: TypeAlias = Callable[[Segment], Coroutine[Any, Any, None]]
EncoderWindow: TypeAlias = Literal["full", "adaptive"]
Mode: TypeAlias = Literal["sequential", "batched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run a transcription, apart from what `WhisperModel.transcribe()` is asked for.

    `model` is a model's name, or empty for the served model. `languages` are the codes to detect among. `scores` adds
    the scores of text tokens to the segments. `timeout` is in seconds; 0 means none. The model stays loaded for
    `keep_alive` seconds afterwards; None means as configured, a negative number forever.
    """

    model: str = ""
    encoder_window: EncoderWindow = "full"
    mode: Mode = "sequential"
    languages: Sequence[str] = ()
    scores: bool = False
    timeout: float = 0.0
    keep_alive: float | None = None


@dataclass(eq=False)
class Transcriber:
    """Transcribes files and live windows, aligns texts with files, and detects speech in them.

    Requests with an upload are admitted with `admission` first.

    `on_transcribed` gets the length of each audio and the time that it took, in seconds, in any thread.
    """

    models: ModelManager
    decoder: AudioDecoder
    admission: Admission
    on_transcribed: Callable[[float, float], None] = ignore
    # Every admitted request gets a thread, so that none waits for another's whole file.
    _threads: CapacityLimiter = field(default_factory=partial(CapacityLimiter, math.inf), init=False)

    @contextmanager
    def background(self) -> Iterator[RequestContext]:
        """Yield the context of work without an open connection, which does not count against the admission limits."""
        context = RequestContext(Priority.BACKGROUND)
        try:
            yield context
        finally:
            context.cancel()

    def serves(self, model: str) -> bool:
        """Whether a request may name that model."""
        try:
            self.models.check(model)
        except ModelNotFound:
            return False
        return True

    async def decode(self, context: RequestContext, file: BinaryIO) -> SpooledWaveform:
        """Return the file's audio, to be closed by the caller; raises BadAudio, AudioTooLong or UploadNotStored."""
        try:
            work = partial(self.decoder.decode, file, context)
            return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except BaseException:
            context.cancel()
            raise

    async def transcribe(
        self,
        context: RequestContext,
        file: BinaryIO,
        options: Mapping[str, Any],
        run: RunOptions,
        *,
        on_segment: AsyncOnSegment | None = None,
    ) -> Transcript:
        """Decode the file and transcribe it with `options` of `WhisperModel.transcribe()`.

        Each segment is awaited with `on_segment` as soon as it is decoded; decoding goes on when that returns. If the
        caller is cancelled, or the timeout passes (DeadlinePassed), the thread stops at the next window. Raises also
        what `decode()` raises, BadOption, ModelNotFound, Overloaded, and whatever loading a model raises.
        """
        in_thread = ignore if on_segment is None else _awaited_in_loop(context, on_segment)
        decode = partial(self._decode_admitted, context, file, run.model)
        work = partial(self._transcribe, context, decode, options, run, in_thread)
        return await self._in_thread(context, work, timeout=run.timeout)

    async def detect_language(self, context: RequestContext, file: BinaryIO, run: RunOptions) -> tuple[str, float]:
        """Return the code of the language that is spoken in the first 30 s of the file, and its probability.

        Raises what `transcribe()` raises.
        """
        return await self._in_thread(context, partial(self._detect_language, context, file, run), timeout=run.timeout)

    async def transcribe_received(
        self,
        context: RequestContext,
        audio: SpooledWaveform,
        options: Mapping[str, Any],
        run: RunOptions,
        *,
        on_segment: AsyncOnSegment,
    ) -> Transcript:
        """As `transcribe()`, for an admitted request whose client sent samples instead of a file."""
        self.models.check(run.model)
        self.admission.set_audio(context, audio.seconds)
        in_thread = _awaited_in_loop(context, on_segment)
        return await self.transcribe_samples(context, audio, options, run, on_segment=in_thread)

    async def transcribe_channels(
        self, context: RequestContext, file: BinaryIO, options: Mapping[str, Any], run: RunOptions
    ) -> list[Transcript]:
        """As `transcribe()`, with a transcript for each channel of the file."""
        work = partial(self._transcribe_channels, context, file, options, run)
        return await self._in_thread(context, work, timeout=run.timeout)

    async def transcribe_samples(
        self,
        context: RequestContext,
        audio: Waveform,
        options: Mapping[str, Any],
        run: RunOptions,
        *,
        journal: Journal | None = None,
        on_segment: OnSegment = ignore,
        on_progress: OnProgress = ignore,
    ) -> Transcript:
        """As `transcribe()`, for what `decode()` returned; `on_segment` and `on_progress` are called in threads.

        With a `journal`, model calls whose results it has are not made again.
        """
        work = partial(self._transcribe, context, _opened(audio), options, run, on_segment, on_progress, journal)
        return await self._in_thread(context, work, timeout=run.timeout)

    async def align(
        self,
        context: RequestContext,
        file: BinaryIO,
        text: str,
        run: RunOptions,
        *,
        language: str | None = None,
        segment_by: SegmentUnit = "sentence",
    ) -> Alignment:
        """Decode the file and return when each word of the text is spoken in it.

        The language is detected if it is None. Cancellation and errors are those of `transcribe()`.
        """
        work = partial(self._align, context, file, text, run, language, segment_by)
        return await self._in_thread(context, work, timeout=run.timeout)

    async def detect_speech(
        self, context: RequestContext, file: BinaryIO, options: Mapping[str, Any], *, timeout: float = 0.0
    ) -> SpeechActivity:
        """Decode the file and return where speech is in it, with `options` of faster-whisper's `VadOptions`.

        No model is needed. Cancellation and errors are those of `transcribe()`.
        """
        work = partial(self._detect_speech, context, file, VadOptions(**options))
        return await self._in_thread(context, work, timeout=timeout)

    def check_session(self, model: str, language: str | None) -> None:
        """Raise ModelNotFound or BadOption if a live session with these would fail, as far as that is known already."""
        self.models.check(model)
        with suppress(ModelNotFound):  # it is loaded on demand
            if self.models.loaded:
                check_language(self.models.find(model).whisper_for(RequestContext()), language)

    async def decode_window(self, window: DecodeWindow, *, model: str = "") -> Hypothesis:
        """Decode a window of a live session before all other waiting work.

        The model is leased for this window only, so that no session keeps a model from being replaced. If the caller is
        cancelled, waiting calls are dropped and a running one ends within one window.
        """
        context = RequestContext(Priority.LIVE)
        return await self._in_thread(context, partial(self._decode_window, context, window, model))

    async def _in_thread(self, context: RequestContext, work: Callable[[], T], *, timeout: float = 0.0) -> T:
        """Run the last step of a request; its context is cancelled with the caller, and in any case afterwards."""
        try:
            with fail_after(timeout or None):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError as exc:
            raise DeadlinePassed(timeout) from exc
        finally:
            context.cancel()

    def _decode_admitted(self, context: RequestContext, file: BinaryIO, model: str) -> SpooledWaveform:
        self.models.check(model)
        return self.decoder.decode(file, context, partial(self.admission.set_audio, context))

    def _transcribe_channels(
        self, context: RequestContext, file: BinaryIO, options: Mapping[str, Any], run: RunOptions
    ) -> list[Transcript]:
        self.models.check(run.model)
        with ExitStack() as stack:
            channels = self.decoder.decode_channels(file, context, partial(self.admission.set_audio, context))
            for channel in channels:
                stack.callback(channel.close)
            return [self._transcribe(context, _opened(channel), options, run, ignore) for channel in channels]

    def _transcribe(
        self,
        context: RequestContext,
        get_audio: Callable[[], AbstractContextManager[Waveform]],
        options: Mapping[str, Any],
        run: RunOptions,
        on_segment: OnSegment,
        on_progress: OnProgress = ignore,
        journal: Journal | None = None,
    ) -> Transcript:
        started = time.monotonic()
        replay = Replay(journal) if journal is not None else None
        with get_audio() as audio, self._leased(run, audio) as model:
            check_candidates(model.whisper_for(context), run.languages)
            start = _transcription(model, context, run, replay)
            transcript = start(audio, options, scores=run.scores, on_segment=on_segment, on_progress=on_progress)
        self._report(model, "transcribed", transcript.duration, started)
        return transcript

    def _detect_language(self, context: RequestContext, file: BinaryIO, run: RunOptions) -> tuple[str, float]:
        with self._decode_admitted(context, file, run.model) as audio, self._leased(run, audio) as model:
            return detect_language(model.whisper_for(context), audio)

    def _align(
        self,
        context: RequestContext,
        file: BinaryIO,
        text: str,
        run: RunOptions,
        language: str | None,
        segment_by: SegmentUnit,
    ) -> Alignment:
        started = time.monotonic()
        options = {**TRANSCRIPTION_OPTIONS, **({} if language is None else {"language": language})}
        with self._decode_admitted(context, file, run.model) as audio, self._leased(run, audio) as model:
            transcript = _transcription(model, context, run)(long_enough(audio), options)
            concurrency = model.capacity if run.mode == "batched" else 1
            whisper_for = partial(model.whisper_for, encoder_window=run.encoder_window)
            aligner = Aligner(whisper_for, context, audio, concurrency=concurrency)
            alignment = aligner.align(text, transcript, segment_by)
        self._report(model, "aligned", alignment.duration, started)
        return alignment

    def _detect_speech(self, context: RequestContext, file: BinaryIO, options: VadOptions) -> SpeechActivity:
        decode = partial(self.decoder.decode, file, context, partial(self.admission.set_audio, context))
        with decode() as audio, _trimmed(audio):
            return detect_speech(audio, options, context.check)

    @contextmanager
    def _leased(self, run: RunOptions, audio: Waveform) -> Iterator[LoadedModel]:
        """Yield the model for work with the audio."""
        with self.models.lease(run.model, keep_alive=run.keep_alive) as model, _trimmed(audio):
            yield model

    def _report(self, model: LoadedModel, done: str, duration: float, started: float) -> None:
        seconds = time.monotonic() - started
        logger.info("%s %s %.1f s of audio in %.2f s", model.name, done, duration, seconds)
        self.on_transcribed(duration, seconds)

    def _decode_window(self, context: RequestContext, window: DecodeWindow, name: str) -> Hypothesis:
        with self.models.lease(name) as model:
            whisper = model.whisper_for(context, encoder_window="adaptive")
            check_language(whisper, window.language)
            return decode_window(whisper, window)


def _transcription(
    model: LoadedModel, context: RequestContext, run: RunOptions, replay: Replay | None = None
) -> Callable[..., Transcript]:
    """Return `transcribe` or `transcribe_chunked` for the audio and what follows it."""
    whisper_for = partial(model.whisper_for, encoder_window=run.encoder_window, languages=run.languages, replay=replay)
    if run.mode == "batched":
        limits, concurrency = CHUNK_LIMITS[run.encoder_window], model.capacity
        return partial(transcribe_chunked, whisper_for, context, concurrency=concurrency, limits=limits)
    return partial(transcribe, whisper_for(context))


def _opened(audio: Waveform) -> Callable[[], AbstractContextManager[Waveform]]:
    """Return a source of audio that somebody else closes."""
    return lambda: nullcontext(audio)


@contextmanager
def _trimmed(audio: Waveform) -> Iterator[None]:
    """After long audio, give back the memory that the allocator would keep; pages are faulted in once more then."""
    try:
        yield
    finally:
        if len(audio) > _LONG_AUDIO:
            release_freed_memory()


def _awaited_in_loop(context: RequestContext, on_segment: AsyncOnSegment) -> OnSegment:
    """Return a callback for the thread that waits until the event loop has handled the segment."""

    def call(segment: Segment) -> None:
        context.check()
        from_thread.run(on_segment, segment)

    return call
