"""`POST /v1/listen`: files for Deepgram's clients, as the body or at a URL, now or with a callback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from whisper_server.api.deepgram.callback import new_job, request_id_of
from whisper_server.api.deepgram.file_options import FileRequest, parse_file_request
from whisper_server.api.deepgram.response import AboutRequest, transcription
from whisper_server.api.requests.body import media_type, read_json, read_raw_body, upload_digest
from whisper_server.api.requests.options import run_options
from whisper_server.api.responses.keepalive_response import KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.state import ServerRequest, key_name
from whisper_server.core.errors import BadOption, BadRequest
from whisper_server.core.logs import request_id
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.url_fetcher import parse_url

_MAX_JSON_BYTES = 16 * 1024
_IN_MEMORY = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a request, or an empty one if the audio is at a `url`."""

    file: BinaryIO
    url: str = ""


async def prerecorded(request: ServerRequest) -> ASGIApp:
    parsed = parse_file_request(request.query_params)
    if parsed.callback:
        return await _accept_job(request, parsed)
    transcriber = request.state.transcriber
    transcriber.admission.check_room()
    request.state.models.preload()
    async with AsyncExitStack() as resources:
        source = await resources.enter_async_context(_source(request))
        context = resources.enter_context(transcriber.admission.admit())
        work = partial(_respond, request, resources.pop_all(), context, source, parsed)
        return KeepAliveResponse(work, interval=keepalive_interval(request))


@asynccontextmanager
async def _source(request: ServerRequest) -> AsyncIterator[Source]:
    kind = media_type(request)
    if kind == "multipart/form-data":
        raise BadRequest("the body is a form; send the file itself, or JSON with a url")
    if kind == "application/json":
        url = await _url(request)
        with SpooledTemporaryFile(_IN_MEMORY) as file:
            yield Source(cast(BinaryIO, file), url)
    else:
        async with read_raw_body(request, max_bytes=request.state.settings.max_upload_bytes) as body:
            yield Source(body)


async def _url(request: ServerRequest) -> str:
    """Return the URL of a JSON body; raises BadOption or BadAddress."""
    example = '{"url": "https://…"}'
    url = (await read_json(request, max_bytes=_MAX_JSON_BYTES, example=example)).get("url")
    if not isinstance(url, str) or not url.strip():
        raise BadOption("url", url, f"an address, as in {example}, or audio with another Content-Type")
    if not request.state.settings.allow_url_fetch:
        raise BadOption("url", url, "audio as the body: this server downloads nothing without --allow-url-fetch")
    if len(url) > 2_000:
        raise BadOption("url", url, "at most 2000 characters")
    parse_url(url.strip())
    return url.strip()


async def _respond(
    request: ServerRequest,
    resources: AsyncExitStack,
    context: RequestContext,
    source: Source,
    parsed: FileRequest,
    body: KeepAliveBody,
) -> Response:
    """Do the work, then close the file and release the admission."""
    created = datetime.now(timezone.utc)
    async with resources:
        if source.url:
            fetch = partial(request.state.jobs.fetcher.fetch, source.url, source.file, context.check)
            # Each download has a thread, as many as there are admitted requests.
            await to_thread.run_sync(fetch, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        digest = await run_in_threadpool(upload_digest, source.file)
        transcripts = await _transcribe(request, context, source.file, parsed)
    model = request.state.models.id_of(parsed.execution["model"])
    about = AboutRequest(request_id.get(), digest.hex(), created, model)
    return JSONResponse(await run_in_threadpool(transcription, transcripts, parsed.rendering, about))


async def _transcribe(
    request: ServerRequest, context: RequestContext, file: BinaryIO, parsed: FileRequest
) -> list[Transcript]:
    transcriber, run = request.state.transcriber, run_options(parsed.execution, request.state.settings)
    if parsed.multichannel:
        return await transcriber.transcribe_channels(context, file, parsed.decoding, run)
    return [await transcriber.transcribe(context, file, parsed.decoding, run)]


async def _accept_job(request: ServerRequest, parsed: FileRequest) -> Response:
    jobs, owner = request.state.jobs, key_name(request) or ""
    jobs.webhooks.check(parsed.callback, param="callback")
    await jobs.query(JobStore.check_room, owner)
    async with _source(request) as source:
        digest = "" if source.url else (await run_in_threadpool(upload_digest, source.file)).hex()
        job = new_job(request, parsed, url=source.url, sha256=digest)
        (accepted,), _ = await jobs.submit(owner, [job], [None if source.url else source.file])
    return JSONResponse({"request_id": request_id_of(accepted)})
