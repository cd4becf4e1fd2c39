"""`POST /v1/audio/transcriptions` and `POST /v1/audio/translations`, as OpenAI's clients know them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeAlias, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp

from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.requests.openai_form import JSON_FORMATS, Task, TranscriptionRequest, parse_openai_form
from whisper_server.api.requests.options import run_options
from whisper_server.api.responses.keepalive_response import EVENTS, KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.responses.openai_json import render_transcript
from whisper_server.api.responses.openai_sse import TranscriptEvents
from whisper_server.api.single_flight import fingerprint, is_retry, may_retry
from whisper_server.api.state import ServerRequest
from whisper_server.inference.transcription.sequential import Transcript

T = TypeVar("T")
Work: TypeAlias = Callable[..., Awaitable[Transcript]]


async def transcriptions(request: ServerRequest) -> ASGIApp:
    return await _answer(request, "transcribe")


async def translations(request: ServerRequest) -> ASGIApp:
    return await _answer(request, "translate")


async def _answer(request: ServerRequest, task: Task) -> ASGIApp:
    transcriber, settings = request.state.transcriber, request.state.settings
    transcriber.check_room()
    request.state.models.preload()
    async with AsyncExitStack() as held:
        form = await held.enter_async_context(read_form(request, max_bytes=settings.max_upload_bytes))
        file = uploaded_file(form).file
        asked = parse_openai_form([*request.query_params.multi_items(), *text_pairs(form)], task=task)
        context = held.enter_context(transcriber.admit())
        run = run_options(asked.execution, settings)
        work = partial(transcriber.transcribe, context, file, asked.decoding, run)
        if asked.stream:
            return _streamed(request, asked, partial(_holding, held.pop_all(), work))
        if may_retry(request):
            key = await run_in_threadpool(fingerprint, request, file, asked)
            return _whole(request, asked, _joined(request, key, held, work))
        return _whole(request, asked, partial(_holding, held.pop_all(), work))


def _joined(request: ServerRequest, key: str, held: AsyncExitStack, work: Work) -> Work:
    """The work of the request that this one repeats, or work that may be joined by a repetition."""
    single_flight = request.state.single_flight
    shared = single_flight.find(key) if is_retry(request) else None
    if shared is None:
        shared = single_flight.start(key, partial(_holding, held.pop_all(), work))
    return partial(single_flight.wait, key, shared)


def _whole(request: ServerRequest, asked: TranscriptionRequest, work: Work) -> ASGIApp:
    async def answer(body: KeepAliveBody) -> Response:
        return render_transcript(await work(), asked)

    return KeepAliveResponse(
        answer, interval=keepalive_interval(request) if asked.response_format in JSON_FORMATS else math.inf
    )


def _streamed(request: ServerRequest, asked: TranscriptionRequest, work: Work) -> ASGIApp:
    async def answer(body: KeepAliveBody) -> None:
        events = TranscriptEvents(asked, body.write)
        await events.end(await work(on_segment=events.segment))

    return KeepAliveResponse(answer, EVENTS, interval=keepalive_interval(request))


async def _holding(held: AsyncExitStack, work: Callable[..., Awaitable[T]], **keywords: object) -> T:
    """Do the work, and let go of the file and the place in the queue after it."""
    async with held:
        return await work(**keywords)
