"""Runs one job, from its audio to its result."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, get_cancelled_exc_class, move_on_after, to_thread

from whisper_server.core import errors
from whisper_server.core.errors import WhisperServerError
from whisper_server.core.logs import request_id
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.audio.waveform import SpooledWaveform, Waveform
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.checkpoint import Checkpoint, segment_facts
from whisper_server.jobs.job import Job, Lease
from whisper_server.jobs.storage.audio_storage import AudioStorage
from whisper_server.jobs.storage.leases import LONGEST_DELAY, Leases
from whisper_server.jobs.url_fetcher import Fetcher

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DELAYS = (5.0, 20.0, 80.0, LONGEST_DELAY)
_RELEASE_TIMEOUT = 10.0
_HASHED_SAMPLES = 1 << 20


@dataclass(eq=False)
class JobWorker:
    """Runs leased jobs. Their outcome is stored, never raised."""

    transcriber: Transcriber
    leases: Leases
    audio: AudioStorage
    fetcher: Fetcher
    result_cache: bool
    _limiter: CapacityLimiter = field(default_factory=partial(CapacityLimiter, 64), init=False)

    async def run(self, lease: Lease, slot: AbstractAsyncContextManager[object]) -> None:
        """Run a job and store its outcome; if the caller is cancelled, release the lease.

        Only what follows the download of the audio happens in the `slot`. Raises JobsUnavailable if the progress or the
        outcome cannot be stored: the job is requeued then, by this server or when its lease has expired.
        """
        token = request_id.set(lease.job.id)
        try:
            await self._run(lease, slot)
        except get_cancelled_exc_class():
            # The server stops; or the job was cancelled, and then there is no lease to release.
            with move_on_after(_RELEASE_TIMEOUT, shield=True):
                await self._release(lease)
            raise
        except errors.JobsUnavailable:
            await self._release(lease, "retry", delay=_DELAYS[0])
            raise
        except Exception as exc:
            await self._handle_error(lease, exc)
        finally:
            request_id.reset(token)

    async def _run(self, lease: Lease, slot: AbstractAsyncContextManager[object]) -> None:
        job = lease.job
        with self.transcriber.background() as context:
            await self._fetch(context, lease)
            async with slot:
                with self.audio.read(job.id) as file:
                    audio = await self.transcriber.decode(context, file)
                with audio:
                    await self._blocking(partial(self.leases.record_audio, lease, audio_seconds=audio.seconds))
                    await self._succeed(context, lease, audio)
        if not job.keep_audio:
            await self._blocking(self.audio.remove, job.id)
        logger.info("job %s has succeeded", job.id)

    async def _fetch(self, context: RequestContext, lease: Lease) -> None:
        """Download the audio of a job that was submitted with a URL, unless an earlier run has."""
        job = lease.job
        if not job.url or self.audio.has(job.id):
            return

        def fetch() -> int:
            with self.audio.writer(job.id) as file:
                return self.fetcher.fetch(job.url, file, context.check)

        size = await to_thread.run_sync(fetch, abandon_on_cancel=True, limiter=self._limiter)
        await self._blocking(partial(self.leases.record_audio, lease, file_bytes=size))

    async def _succeed(self, context: RequestContext, lease: Lease, audio: SpooledWaveform) -> None:
        """Store the result, from the cache or from the model."""
        key = await self._blocking(_cache_key, audio, lease.job) if self.result_cache else ""
        if key and (transcript := await self._blocking(self.leases.cached, key)) is not None:
            segments = [segment_facts(number, segment) for number, segment in enumerate(transcript.segments)]
            succeed = partial(self.leases.succeed, lease, transcript, segments, cached=True)
        else:
            transcript, segments = await self._transcribe(context, lease, audio)
            succeed = partial(self.leases.succeed, lease, transcript, segments, cache_key=key)
        await self._blocking(succeed)

    async def _transcribe(
        self, context: RequestContext, lease: Lease, audio: SpooledWaveform
    ) -> tuple[Transcript, list[dict[str, Any]]]:
        job = lease.job
        checkpoint = await self._blocking(Checkpoint, self.leases, lease, audio.seconds)
        transcript = await self.transcriber.transcribe_samples(
            context,
            audio,
            job.decoding,
            RunOptions(**{**job.handling, "model": job.model}),
            journal=checkpoint,
            on_segment=checkpoint.segment,
            on_progress=checkpoint.progress,
        )
        return transcript, checkpoint.unreported_segments()

    async def _handle_error(self, lease: Lease, exc: Exception) -> None:
        job = lease.job
        match exc:
            case errors.LeaseLost():
                logger.info("%s", exc)
            # The model is not available now, a worker crashed, another machine did not respond, or a disk is full.
            case errors.Overloaded() | errors.EngineFailed() | errors.ModelUnavailable():
                await self._retry(lease, exc)
            case errors.FetchFailed() | errors.UploadNotStored():
                await self._retry(lease, exc)
            case errors.Cancelled():
                await self._release(lease)
            case errors.ModelNotFound() if not self.transcriber.serves(job.model):
                # The model was replaced a moment ago: the job waits for a server that has it.
                await self._release(lease, "retry")
            case WhisperServerError():
                await self._fail(lease, exc)
            case _:
                logger.exception("job %s failed", job.id, exc_info=exc)
                await self._retry(lease, errors.EngineFailed("internal server error"))

    async def _release(self, lease: Lease, reason: str = "server_stopped", *, delay: float = 0.0) -> None:
        await self._store(lease, partial(self.leases.release, lease, reason, delay=delay))

    async def _retry(self, lease: Lease, exc: WhisperServerError) -> None:
        attempts = lease.job.attempts
        if attempts >= len(_DELAYS):
            return await self._fail(lease, exc)
        logger.warning("job %s is retried: %s", lease.job.id, exc)
        await self._store(lease, partial(self.leases.retry, lease, delay=_DELAYS[attempts]))

    async def _fail(self, lease: Lease, exc: WhisperServerError) -> None:
        logger.info("job %s has failed: %s", lease.job.id, exc)
        kind = "server_error" if exc.status >= 500 else "invalid_request_error"
        error = {"message": str(exc), "type": kind, "param": exc.param, "code": exc.code}
        await self._store(lease, partial(self.leases.fail, lease, error))
        if not lease.job.keep_audio:
            await self._store(lease, partial(self.audio.remove, lease.job.id))

    async def _store(self, lease: Lease, write: Callable[[], None]) -> None:
        """If this fails, the lease expires, and a server takes the job over."""
        try:
            await self._blocking(write)
        except (errors.LeaseLost, errors.JobsUnavailable) as exc:
            logger.info("job %s: %s", lease.job.id, exc)

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)


def _cache_key(audio: Waveform, job: Job) -> str:
    """Return the digest of the owner and of all that the transcript depends on: others do not get its results."""
    handling = {name: value for name, value in job.handling.items() if name not in ("timeout", "keep_alive", "model")}
    facts = json.dumps([job.owner, job.model, job.decoding, handling], sort_keys=True)
    samples = hashlib.sha256()
    for start in range(0, len(audio), _HASHED_SAMPLES):
        samples.update(audio[start : start + _HASHED_SAMPLES].data)
    return hashlib.sha256(samples.digest() + facts.encode()).hexdigest()
