"""`POST /recognise`: the endpoint of the reference project, with openai-whisper's options as fields."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.requests.options import parse_options, run_options
from whisper_server.api.responses.whisper_json import render
from whisper_server.api.state import ServerRequest


async def recognise(request: ServerRequest) -> Response:
    transcriber, settings = request.state.transcriber, request.state.settings
    transcriber.admission.check_room()
    request.state.models.preload()
    async with read_form(request, max_bytes=settings.max_upload_bytes) as form:
        file = uploaded_file(form).file
        options = parse_options(dict(text_pairs(request, form)))
        run = run_options(options.execution, settings)
        with transcriber.admission.admit() as context:
            transcript = await while_connected(
                request, partial(transcriber.transcribe, context, file, options.decoding, run)
            )
    return render(transcript, options, detail=settings.detail)
