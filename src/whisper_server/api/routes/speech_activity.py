"""`POST /v1/audio/speech-activity`: where somebody speaks in a file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from whisper_server.api.requests.form_notation import FormFields
from whisper_server.api.requests.options import EXECUTION, VAD_PARAMETERS, Field, parse_fields
from whisper_server.api.responses.keepalive_response import KeepAliveBody, KeepAliveResponse, keepalive_interval
from whisper_server.api.routes.shared_work import shared_work
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import admitted_upload
from whisper_server.inference.audio.splitting import SpeechActivity

_SUMMARIES = {
    "threshold": "a frame is speech above this probability (0.5)",
    "neg_threshold": "speech ends below this probability (threshold - 0.15)",
    "min_speech_duration_ms": "shorter speech is left out (0)",
    "max_speech_duration_s": "longer speech is divided, if possible in a pause; absent: no limit",
    "min_silence_duration_ms": "a shorter pause does not end a segment (2000)",
    "speech_pad_ms": "added before and after each segment, up to the next one (400)",
}
_OPTIONS = tuple(Field(name, parser, _SUMMARIES[name]) for name, parser in VAD_PARAMETERS.items())
_TIMEOUT = tuple(field for field in EXECUTION if field.name == "timeout")
FIELDS = (*_OPTIONS, *_TIMEOUT)


async def speech_activity(request: ServerRequest) -> ASGIApp:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with AsyncExitStack() as resources:
        upload = await resources.enter_async_context(admitted_upload(request, needs_model=False))
        fields = FormFields.collect(upload.pairs)
        texts = {field.name: fields.value(field.name) for field in FIELDS}
        options = parse_fields(_OPTIONS, texts)
        run = {"timeout": settings.request_timeout, **parse_fields(_TIMEOUT, texts)}
        detect = partial(transcriber.detect_speech, upload.context, upload.file, options, **run)
        work = await shared_work(request, resources, upload.file, (options, run), detect)

    async def respond(body: KeepAliveBody) -> Response:
        return _render(await work())

    return KeepAliveResponse(respond, interval=keepalive_interval(request))


def _render(activity: SpeechActivity) -> Response:
    segments = [{"start": round(start, 3), "end": round(end, 3)} for start, end in activity.segments]
    return JSONResponse({"duration": activity.duration, "segments": segments})
