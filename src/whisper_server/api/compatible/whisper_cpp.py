"""`POST /inference` and `POST /load` for clients of whisper.cpp's server."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.compatible.whisper_cpp_request import InferenceRequest, parse_inference
from whisper_server.api.requests.body import read_form, text_pairs
from whisper_server.api.requests.options import Field, SubtitleLayout, parse_fields, run_options
from whisper_server.api.requests.parsers import text_up_to
from whisper_server.api.responses.whisper_json import finite, render_file
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import admitted_upload
from whisper_server.core.errors import BadRequest
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript

LOAD = (Field("model", text_up_to(300), "a model's name, or that of its file in whisper.cpp (ggml-base.en.bin)"),)

_MAX_BODY_BYTES = 64 * 1024
_MODEL_FILE = re.compile(r"(?:.*[/\\])?ggml-(.+?)(?:-q\d_\d)?\.bin")


async def inference(request: ServerRequest) -> Response:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with admitted_upload(request) as upload:
        parsed = parse_inference(upload.texts)
        run = run_options({}, settings)
        work = partial(transcriber.transcribe, upload.context, upload.file, parsed.decoding, run)
        transcript = await while_connected(request, work)
    return _render(transcript, parsed)


async def load(request: ServerRequest) -> Response:
    """Load another model, as `POST /reload` does."""
    async with read_form(request, max_bytes=_MAX_BODY_BYTES) as form:
        name = parse_fields(LOAD, dict(text_pairs(request, form))).get("model", "").strip()
    if not name:
        raise BadRequest("no 'model' field in the request")
    file = _MODEL_FILE.fullmatch(name)
    await request.state.models.reload(file[1] if file else name)
    return PlainTextResponse("Load was successful!")


def _render(transcript: Transcript, request: InferenceRequest) -> Response:
    text = "".join(f"{segment.text}\n" for segment in transcript.segments)
    match request.response_format:
        case "json":
            return JSONResponse({"text": text})
        case "text":
            return PlainTextResponse(text)
        case "verbose_json":
            return JSONResponse(_verbose_json(transcript, text, request.decoding["task"]))
        case subtitles:
            layout = SubtitleLayout(max_line_width=request.max_len, max_line_count=request.max_len and 1)
            return render_file(transcript.segments, subtitles, layout)


def _verbose_json(transcript: Transcript, text: str, task: str) -> dict[str, Any]:
    return {
        "task": task,
        "language": NAMES[transcript.language],
        "duration": transcript.duration,
        "text": text,
        "segments": [_segment(i, segment) for i, segment in enumerate(transcript.segments)],
        "detected_language": NAMES[transcript.language],
        "detected_language_probability": transcript.language_probability,
    }


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    times = {"start": segment.start, "end": segment.end}
    words = {} if segment.words is None else {"words": [_word(word) for word in segment.words]}
    return {
        "id": index,
        "text": segment.text,
        **times,
        "tokens": segment.tokens,
        **words,
        "temperature": segment.temperature,
        "avg_logprob": finite(segment.avg_logprob),
        "no_speech_prob": finite(segment.no_speech_prob),
    }


def _word(word: Word) -> dict[str, Any]:
    """`t_dtw` is -1 in whisper.cpp, too, unless it is told to compute it."""
    return {"word": word.text, "start": word.start, "end": word.end, "t_dtw": -1, "probability": word.probability}
