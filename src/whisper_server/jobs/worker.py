"""One job from its file to its result."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, get_cancelled_exc_class, move_on_after, to_thread

from whisper_server.core.errors import (
    Cancelled,
    EngineFailed,
    FetchFailed,
    JobsUnavailable,
    LeaseLost,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    WhisperServerError,
)
from whisper_server.core.logs import request_id
from whisper_server.engine.run_options import RunOptions
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.audio.features import Samples
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.checkpoint import Checkpoint, told
from whisper_server.jobs.job import Job, Lease
from whisper_server.jobs.storage.leases import Leases
from whisper_server.jobs.storage.local_storage import LocalStorage
from whisper_server.jobs.url_fetcher import Fetcher

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What may pass: the model is not to be had now, a worker crashed, another machine did not answer.
_MAY_PASS = (Overloaded, EngineFailed, ModelUnavailable, FetchFailed)
_MOST_ATTEMPTS = 5
_FIRST_DELAY = 5.0
_SECONDS_TO_RELEASE = 10.0


class JobWorker:
    """Runs leased jobs; whatever comes out of one is written down, never raised."""

    def __init__(
        self,
        transcriber: Transcriber,
        leases: Leases,
        data: LocalStorage,
        fetcher: Fetcher,
        *,
        result_cache: bool = False,
    ) -> None:
        self._transcriber = transcriber
        self._leases = leases
        self._data = data
        self._fetcher = fetcher
        self._result_cache = result_cache
        self._limiter = CapacityLimiter(64)

    async def run(self, lease: Lease) -> None:
        name = request_id.set(lease.job.id)
        try:
            await self._run(lease)
        except get_cancelled_exc_class():
            # The server stops, or somebody has cancelled the job, and then there is nothing to release.
            with move_on_after(_SECONDS_TO_RELEASE, shield=True):
                await self._settled(lease, partial(self._leases.release, lease))
            raise
        except LeaseLost as exc:
            logger.info("%s", exc)
        except JobsUnavailable as exc:
            logger.error("job %s waits until it can be written down: %s", lease.job.id, exc)
            await self._settled(lease, partial(self._leases.release, lease, "retry"))
        except _MAY_PASS as exc:
            await self._retry(lease, exc)
        except Cancelled:
            await self._settled(lease, partial(self._leases.release, lease))
        except WhisperServerError as exc:
            if isinstance(exc, ModelNotFound) and not self._transcriber.serves(lease.job.model):
                # It was replaced a moment ago, and the job waits for whoever serves it.
                await self._settled(lease, partial(self._leases.release, lease, "retry"))
            else:
                await self._fail(lease, exc)
        except Exception:
            logger.exception("job %s failed", lease.job.id)
            await self._retry(lease, EngineFailed("something broke here"))
        finally:
            request_id.reset(name)

    async def _run(self, lease: Lease) -> None:
        job = lease.job
        with self._transcriber.background() as context:
            await self._fetch(context, lease)
            audio = await self._decoded(context, job)
            seconds = len(audio) / SAMPLE_RATE
            await self._blocking(self._leases.decoded, lease, seconds)
            key = await self._blocking(_cache_key, audio, job) if self._result_cache else ""
            if key and (transcript := await self._blocking(self._leases.cached, key)) is not None:
                segments = [told(number, segment) for number, segment in enumerate(transcript.segments)]
                succeed = partial(self._leases.succeed, lease, transcript, segments, cached=True)
            else:
                transcript, segments = await self._transcribed(context, lease, audio, seconds)
                succeed = partial(self._leases.succeed, lease, transcript, segments, cache_key=key)
            await self._blocking(succeed)
        if not job.keep_audio:
            await self._blocking(self._data.remove, job.id)
        logger.info("job %s has succeeded", job.id)

    async def _fetch(self, context: RequestContext, lease: Lease) -> None:
        job = lease.job
        if not job.url or self._data.has(job.id):
            return

        def fetch() -> int:
            with self._data.receiving(job.id) as file:
                return self._fetcher.fetch(job.url, file, context.check)

        size = await to_thread.run_sync(fetch, abandon_on_cancel=True, limiter=self._limiter)
        await self._blocking(self._leases.received, lease, size)

    async def _decoded(self, context: RequestContext, job: Job) -> Samples:
        with self._data.read(job.id) as file:
            return await self._transcriber.decode(context, file)

    async def _transcribed(
        self, context: RequestContext, lease: Lease, audio: Samples, seconds: float
    ) -> tuple[Transcript, list[dict[str, Any]]]:
        job = lease.job
        checkpoint = await self._blocking(Checkpoint, self._leases, lease, seconds)
        transcript = await self._transcriber.transcribe_samples(
            context,
            audio,
            job.decoding,
            RunOptions(**{**job.handling, "model": job.model}),
            journal=checkpoint,
            on_segment=checkpoint.segment,
            on_progress=checkpoint.progress,
        )
        return transcript, checkpoint.rest()

    async def _retry(self, lease: Lease, exc: WhisperServerError) -> None:
        attempts = lease.job.attempts
        if attempts + 1 >= _MOST_ATTEMPTS:
            return await self._fail(lease, exc)
        logger.warning("job %s is tried again: %s", lease.job.id, exc)
        await self._settled(lease, partial(self._leases.retry, lease, delay=_FIRST_DELAY * 4**attempts))

    async def _fail(self, lease: Lease, exc: WhisperServerError) -> None:
        logger.info("job %s has failed: %s", lease.job.id, exc)
        kind = "server_error" if exc.status >= 500 else "invalid_request_error"
        await self._settled(lease, partial(self._leases.fail, lease, str(exc), kind, exc.param, exc.code))
        if not lease.job.keep_audio:
            await self._settled(lease, partial(self._data.remove, lease.job.id))

    async def _settled(self, lease: Lease, write: Callable[[], None]) -> None:
        """What cannot be written now is settled when the lease ends: somebody takes the job up again."""
        try:
            await self._blocking(write)
        except (LeaseLost, JobsUnavailable) as exc:
            logger.info("job %s: %s", lease.job.id, exc)

    async def _blocking(self, work: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(work, *args, limiter=self._limiter)


def _cache_key(audio: Samples, job: Job) -> str:
    """What the same audio, model and options have in common; how long it may take is none of these."""
    handling = {name: value for name, value in job.handling.items() if name not in ("timeout", "keep_alive", "model")}
    asked = json.dumps([job.model, job.decoding, handling], sort_keys=True)
    return hashlib.sha256(hashlib.sha256(audio.data).digest() + asked.encode()).hexdigest()
