"""Read request bodies up to a size limit. Starlette stores uploads in anonymous files, never under a client's name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl

from anyio import to_thread
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from whisper_server.api.requests import json_audio
from whisper_server.api.requests.content_encoding import decoded
from whisper_server.api.requests.multipart import MAX_FIELD_BYTES, MAX_FIELDS, read_multipart
from whisper_server.api.requests.text import check_pairs, parse_json_object
from whisper_server.core.errors import BadRequest, NoFileProvided, NoFileSelected, UploadNotStored, UploadTooLarge

_MAX_FILES = 8
_BLOCK_BYTES = 1 << 20


@asynccontextmanager
async def read_form(request: Request[Any], *, max_bytes: int, max_files: int = _MAX_FILES) -> AsyncIterator[FormData]:
    """Yield the form and delete its files afterwards.

    A body that is neither a form nor JSON is the audio itself, as if it were the form's `file`. Raises UploadTooLarge
    as soon as the limit is exceeded, BadRequest, UnsupportedEncoding, and UploadNotStored if the temporary directory is
    full.
    """
    read = _READERS.get(media_type(request), _read_raw)
    with _storing():
        form = await read(request, max_bytes, max_files)
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def read_raw_body(request: Request[Any], *, max_bytes: int) -> AsyncIterator[BinaryIO]:
    """Yield the body as a file, which is rewound, and delete it afterwards; raises what `read_form()` raises."""
    with _storing():
        upload = await _spool(_limit(request, max_bytes))
    try:
        yield upload.file
    finally:
        await upload.close()


def media_type(request: Request[Any]) -> str:
    """Return the Content-Type in lower case and without parameters; it is empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UploadNotStored(exc.strerror or type(exc).__name__) from exc


async def _read_multipart(request: Request[Any], max_bytes: int, max_files: int) -> FormData:
    return await read_multipart(_limit(request, max_bytes), max_files=max_files)


async def _read_raw(request: Request[Any], max_bytes: int, max_files: int) -> FormData:
    return _raw_form(await _spool(_limit(request, max_bytes)))


async def _read_urlencoded(request: Request[Any], max_bytes: int, max_files: int) -> FormData:
    """Read a form, or audio: curl's `--data-binary` sends any file with this type."""
    upload = await _spool(_limit(request, max_bytes))
    text = await upload.read(MAX_FIELD_BYTES)
    if upload.size == len(text) and _URLENCODED.fullmatch(text):
        await upload.close()
        return _fields(text)
    await upload.seek(0)
    return _raw_form(upload)


def _fields(text: bytes) -> FormData:
    try:
        return FormData([*parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)])
    except ValueError as exc:
        raise BadRequest(f"the form has more than {MAX_FIELDS} fields") from exc


async def _read_json_audio(request: Request[Any], max_bytes: int, max_files: int) -> FormData:
    upload = await _spool(_limit(request, min(max_bytes, json_audio.MAX_BYTES)))
    try:
        return await to_thread.run_sync(json_audio.parse_json_audio, upload.file, limiter=request.state.json_bodies)
    finally:
        await upload.close()


# By the media type of the body; all others are audio.
_READERS = {
    "multipart/form-data": _read_multipart,
    "application/x-www-form-urlencoded": _read_urlencoded,
    "application/json": _read_json_audio,
}
_URLENCODED = re.compile(rb"[!-~]*")


def _raw_form(upload: UploadFile) -> FormData:
    if not upload.size:
        upload.file.close()
        return FormData()
    return FormData([("file", upload)])


async def _spool(request: Request[Any]) -> UploadFile:
    """Return the body as a file at its beginning, to be closed by the caller."""
    file = SpooledTemporaryFile(max_size=_BLOCK_BYTES)  # noqa: SIM115
    upload = UploadFile(cast(BinaryIO, file), size=0, filename="audio")
    try:
        async for block in request.stream():
            await upload.write(block)
        await upload.seek(0)
    except BaseException:
        file.close()
        raise
    return upload


def uploaded_file(form: FormData, *names: str) -> UploadFile:
    """Return the first file among these fields, by default `file`; raises NoFileProvided or NoFileSelected."""
    uploads = (form.get(name) for name in names or ("file",))
    upload = next((upload for upload in uploads if isinstance(upload, UploadFile)), None)
    if upload is None:
        raise NoFileProvided
    if not upload.filename:
        raise NoFileSelected
    return upload


def text_pairs(request: Request[Any], form: FormData) -> list[tuple[str, str]]:
    """Return the parameters of the URL and then the fields of the form, without its files; raises BadOption."""
    fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    pairs = [*request.query_params.multi_items(), *fields]
    check_pairs(pairs)
    return pairs


def upload_digest(file: BinaryIO) -> bytes:
    """Return the SHA-256 of a file, and rewind it."""
    digest = sha256()
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    file.seek(0)
    return digest.digest()


async def read_json(request: Request[Any], *, max_bytes: int, example: str) -> dict[str, Any]:
    """Return the JSON object of a body, which is empty if there is no body; raises BadRequest or UploadTooLarge."""
    return parse_json_object(await _limit(request, max_bytes).body() or b"{}", example=example)


def _limit(request: Request[Any], max_bytes: int) -> Request[Any]:
    """Return a request whose body is decoded. It raises UploadTooLarge at the limit; a declared length does so now."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise UploadTooLarge(max_bytes)
    received = 0
    receive_decoded = decoded(request.receive, request.headers.get("content-encoding", ""))

    async def receive() -> Message:
        nonlocal received
        message = await receive_decoded()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise UploadTooLarge(max_bytes)
        return message

    return Request(request.scope, receive)
