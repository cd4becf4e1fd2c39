"""`POST /asr` and `POST /detect-language` for clients of whisper-asr-webservice, such as Bazarr.

As in that project, every response of /asr is plain text, and the file's own name is the name of the download.
"""

from __future__ import annotations

import json
from functools import partial
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import JSONResponse, PlainTextResponse, Response

from whisper_server.api.client_disconnect import while_connected
from whisper_server.api.requests.options import (
    DECODING,
    EXECUTION,
    Field,
    parse_fields,
    parse_options,
    run_options,
)
from whisper_server.api.requests.parsers import FLAG, one_of
from whisper_server.api.responses.whisper_json import file_text, transcript_to_json
from whisper_server.api.state import ServerRequest
from whisper_server.api.uploads import Upload, admitted_upload
from whisper_server.inference.audio.raw_pcm import as_wav
from whisper_server.inference.transcription.languages import NAMES
from whisper_server.inference.transcription.sequential import Transcript

_FILES = ("audio_file", "file")
# The outputs, which are extensions of files, and the formats of /recognise.
_OUTPUTS = {"txt": "text", "vtt": "vtt", "srt": "srt", "tsv": "tsv", "json": "json"}
_ENCODE = Field("encode", FLAG, "false: the file is raw 16 kHz mono samples of 16 bits, little-endian (true)")
_OUTPUT = Field("output", one_of(*_OUTPUTS), "the format of the response body (txt)")

ASR = (_OUTPUT, _ENCODE, *DECODING, *EXECUTION)
DETECT_LANGUAGE = (_ENCODE,)


async def asr(request: ServerRequest) -> Response:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with admitted_upload(request, *_FILES) as upload:
        output = parse_fields((_OUTPUT,), upload.texts).get("output", "txt")
        options = parse_options({name: text for name, text in upload.texts.items() if name != "response_format"})
        run = run_options(options.execution, settings)
        work = partial(transcriber.transcribe, upload.context, _audio(upload), options.decoding, run)
        transcript = await while_connected(request, work)
    return PlainTextResponse(
        _render(transcript, output),
        headers={
            "asr-engine": "faster_whisper",
            "content-disposition": f'attachment; filename="{quote(upload.name)}.{output}"',
        },
    )


async def detect_language(request: ServerRequest) -> Response:
    transcriber, settings = request.state.transcriber, request.state.settings
    async with admitted_upload(request, *_FILES) as upload:
        work = partial(transcriber.detect_language, upload.context, _audio(upload), run_options({}, settings))
        language, probability = await while_connected(request, work)
    return JSONResponse({"detected_language": NAMES[language], "language_code": language, "confidence": probability})


def _audio(upload: Upload) -> BinaryIO:
    encoded = parse_fields((_ENCODE,), upload.texts).get("encode", True)
    return upload.file if encoded else as_wav(upload.file)


def _render(transcript: Transcript, output: str) -> str:
    if output == "json":
        return json.dumps(transcript_to_json(transcript))
    return file_text(transcript.segments, _OUTPUTS[output])
