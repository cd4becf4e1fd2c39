"""`POST /recognise`: the endpoint of the reference project, with openai-whisper's options as fields."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.requests.options import parse_options, run_options
from whisper_server.api.responses.whisper_json import render
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import admitted_upload


async def recognise(request: ServerRequest) -> Response:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with admitted_upload(request) as upload:
        options = parse_options(upload.texts)
        run = run_options(options.execution, settings)
        work = partial(transcriber.transcribe, upload.context, upload.file, options.decoding, run)
        transcript = await while_connected(request, work)
    return render(transcript, options, detail=settings.detail)
