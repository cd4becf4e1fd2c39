"""Audio in a JSON body, as Open WebUI sends it: `{"input_audio": {"data": BASE64}, "model": …}`."""

from __future__ import annotations

import base64
import binascii
import json
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from starlette.datastructures import FormData, UploadFile

from whisper_server.api.requests.text import parse_json_object
from whisper_server.core.errors import BadRequest

# The audio is in memory several times while it is decoded. OpenAI's limit for a file is 25 MB.
MAX_BYTES = 36 * 1024**2


def parse_json_audio(file: BinaryIO) -> FormData:
    """Return the members as form fields, and the audio as the file; raises BadRequest. Takes a second for 25 MB."""
    content = parse_json_object(file.read(), example='{"input_audio": {"data": "…"}}')
    audio = content.pop("input_audio", None)
    fields: list[tuple[str, str | UploadFile]] = [
        (name, _text(value)) for name, value in content.items() if value is not None
    ]
    if audio is None:
        return FormData(fields)
    return FormData([*fields, ("file", _file(audio))])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _file(audio: Any) -> UploadFile:
    data = audio.get("data") if isinstance(audio, dict) else None
    if not isinstance(data, str):
        raise BadRequest("input_audio is not an object with the audio as base64 in `data`")
    try:
        content = base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise BadRequest("input_audio.data is not base64") from exc
    file = SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return UploadFile(cast(BinaryIO, file), size=len(content), filename="audio")
