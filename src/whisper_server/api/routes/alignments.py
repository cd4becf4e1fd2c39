"""`POST /v1/audio/alignments`: when each word of a known text is spoken."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp

from whisper_server.api.requests.alignment_form import parse_alignment_form, read_uploaded_text
from whisper_server.api.requests.options import run_options
from whisper_server.api.responses.alignment_json import render_alignment
from whisper_server.api.responses.keepalive_response import KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.routes.shared_work import shared_work
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import admitted_upload


async def alignments(request: ServerRequest) -> ASGIApp:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with AsyncExitStack() as resources:
        upload = await resources.enter_async_context(admitted_upload(request))
        parsed = parse_alignment_form(upload.pairs, await read_uploaded_text(upload.form))
        run = run_options(parsed.execution, settings)
        chosen = partial(transcriber.align, language=parsed.language, segment_by=parsed.segment_by)
        align = partial(chosen, upload.context, upload.file, parsed.text, run)
        work = await shared_work(request, resources, upload.file, parsed, align)

    async def respond(body: KeepAliveBody) -> Response:
        return await run_in_threadpool(render_alignment, await work(), parsed)

    interval = keepalive_interval(request) if parsed.response_format == "json" else math.inf
    return KeepAliveResponse(respond, interval=interval)
