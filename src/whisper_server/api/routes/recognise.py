"""`POST /recognise`: the endpoint of the reference project, with openai-whisper's options as fields."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.requests.options import parse_options, window_for
from whisper_server.api.responses.whisper_json import render
from whisper_server.core.settings import Settings
from whisper_server.engine.transcriber import Engine


async def recognise(request: Request) -> Response:
    engine: Engine = request.state.engine
    settings: Settings = request.state.settings
    engine.check_room()
    engine.wake()
    async with read_form(request, max_bytes=settings.max_upload_bytes) as form:
        upload = uploaded_file(form)
        options = parse_options({**request.query_params, **dict(text_pairs(form))})
        defaults = {
            "encoder_window": window_for(options.handling, settings.encoder_window),
            "timeout": settings.request_timeout,
        }
        handling = {**defaults, **options.handling}
        with engine.admit() as context:
            work = partial(engine.transcribe, context, upload.file, options.decoding, **handling)
            transcript = await while_connected(request, work)
    return render(transcript, options, detail=settings.detail)
