"""`POST /v1/audio/transcriptions` and `POST /v1/audio/translations`, compatible with OpenAI's clients."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import ASGIApp

from whisper_server.api.requests.openai_form import JSON_FORMATS, Task, TranscriptionRequest, parse_openai_form
from whisper_server.api.requests.options import run_options
from whisper_server.api.responses.keepalive_response import EVENTS, KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.responses.openai_json import render_transcript
from whisper_server.api.responses.openai_sse import TranscriptEvents
from whisper_server.api.routes.shared_work import shared_work, with_resources
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import admitted_upload
from whisper_server.inference.transcription.sequential import Transcript

Work: TypeAlias = Callable[..., Awaitable[Transcript]]


async def transcriptions(request: ServerRequest) -> ASGIApp:
    return await _respond(request, "transcribe")


async def translations(request: ServerRequest) -> ASGIApp:
    return await _respond(request, "translate")


async def _respond(request: ServerRequest, task: Task) -> ASGIApp:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with AsyncExitStack() as resources:
        upload = await resources.enter_async_context(admitted_upload(request))
        parsed = parse_openai_form(upload.pairs, task=task)
        run = run_options(parsed.execution, settings)
        work = partial(transcriber.transcribe, upload.context, upload.file, parsed.decoding, run)
        if parsed.stream:
            return _stream_response(request, parsed, partial(with_resources, resources.pop_all(), work))
        return _response(request, parsed, await shared_work(request, resources, upload.file, parsed, work))


def _response(request: ServerRequest, parsed: TranscriptionRequest, work: Work) -> ASGIApp:
    async def respond(body: KeepAliveBody) -> Response:
        return render_transcript(await work(), parsed)

    interval = keepalive_interval(request) if parsed.response_format in JSON_FORMATS else math.inf
    return KeepAliveResponse(respond, interval=interval)


def _stream_response(request: ServerRequest, parsed: TranscriptionRequest, work: Work) -> ASGIApp:
    async def respond(body: KeepAliveBody) -> None:
        events = TranscriptEvents(parsed, body.write)
        await events.end(await work(on_segment=events.segment))

    return KeepAliveResponse(respond, EVENTS, interval=keepalive_interval(request))
