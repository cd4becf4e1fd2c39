"""`POST /v1/audio/alignments`: when each word of a known text is spoken."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp

from whisper_server.api.requests.alignment_form import parse_alignment_form, read_uploaded_text
from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.requests.options import run_options
from whisper_server.api.responses.alignment_json import render_alignment
from whisper_server.api.responses.keepalive_response import KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.routes.shared_work import shared_work
from whisper_server.api.state import ServerRequest


async def alignments(request: ServerRequest) -> ASGIApp:
    transcriber, settings = request.state.transcriber, request.state.settings
    transcriber.admission.check_room()
    request.state.models.preload()
    async with AsyncExitStack() as resources:
        form = await resources.enter_async_context(read_form(request, max_bytes=settings.max_upload_bytes))
        file = uploaded_file(form).file
        parsed = parse_alignment_form(text_pairs(request, form), await read_uploaded_text(form))
        context = resources.enter_context(transcriber.admission.admit())
        run = run_options(parsed.execution, settings)
        align = partial(
            transcriber.align, context, file, parsed.text, run, language=parsed.language, segment_by=parsed.segment_by
        )
        work = await shared_work(request, resources, file, parsed, align)

    async def respond(body: KeepAliveBody) -> Response:
        return await run_in_threadpool(render_alignment, await work(), parsed)

    interval = keepalive_interval(request) if parsed.response_format == "json" else math.inf
    return KeepAliveResponse(respond, interval=interval)
