"""Read request bodies up to a size limit. Starlette stores uploads in anonymous files, never under a client's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from whisper_server.api.requests.text import check_pairs, parse_json
from whisper_server.core.errors import BadRequest, NoFileProvided, NoFileSelected, UploadNotStored, UploadTooLarge

_MAX_FILES = 8
_MAX_FIELDS = 200
_MAX_FIELD_BYTES = 64 * 1024
_BLOCK_BYTES = 1 << 20


@asynccontextmanager
async def read_form(request: Request[Any], *, max_bytes: int, max_files: int = _MAX_FILES) -> AsyncIterator[FormData]:
    """Yield the form and delete its files afterwards.

    Raises UploadTooLarge as soon as the limit is exceeded, and UploadNotStored if the temporary directory is full.
    """
    limits = {"max_files": max_files, "max_fields": _MAX_FIELDS, "max_part_size": _MAX_FIELD_BYTES}
    try:
        form = await _limit(request, max_bytes).form(**limits)
    except OSError as exc:
        raise UploadNotStored(exc.strerror or type(exc).__name__) from exc
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def read_raw_body(request: Request[Any], *, max_bytes: int) -> AsyncIterator[BinaryIO]:
    """Yield the body as a file, which is rewound, and delete it afterwards; raises what `read_form()` raises."""
    # As large in memory as Starlette's uploads.
    with SpooledTemporaryFile(_BLOCK_BYTES) as file:
        written = 0
        try:
            async for chunk in _limit(request, max_bytes).stream():
                written += len(chunk)
                if written > _BLOCK_BYTES:  # it is written to the disk
                    await run_in_threadpool(file.write, chunk)
                else:
                    file.write(chunk)
        except OSError as exc:
            raise UploadNotStored(exc.strerror or type(exc).__name__) from exc
        await run_in_threadpool(file.seek, 0)
        yield cast(BinaryIO, file)


def uploaded_file(form: FormData) -> UploadFile:
    """Raises NoFileProvided or NoFileSelected."""
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
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
    body = await _limit(request, max_bytes).body()
    try:
        content = parse_json(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise BadRequest("the body is not JSON, or a string has NUL characters or lone surrogates") from exc
    if not isinstance(content, dict):
        raise BadRequest(f"the body is not a JSON object such as {example}")
    return content


def _limit(request: Request[Any], max_bytes: int) -> Request[Any]:
    """Return a request whose body raises UploadTooLarge at the limit; a declared length raises it at once."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise UploadTooLarge(max_bytes)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise UploadTooLarge(max_bytes)
        return message

    return Request(request.scope, receive)
