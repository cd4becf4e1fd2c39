"""Read request bodies up to a size limit. Starlette spools uploads to anonymous files, never under a client's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive

from whisper_server.core.errors import NoFileProvided, NoFileSelected, UploadTooLarge

_MAX_FILES = 8
_MAX_FIELDS = 200
_MAX_FIELD_BYTES = 64 * 1024
_BLOCK_BYTES = 1 << 20


@asynccontextmanager
async def read_form(request: Request[Any], *, max_bytes: int, max_files: int = _MAX_FILES) -> AsyncIterator[FormData]:
    """Yield the form and delete its files afterwards; raises UploadTooLarge as soon as the limit is exceeded."""
    _check_declared_length(request, max_bytes)
    limited = Request(request.scope, _limit_receive(request.receive, max_bytes))
    form = limited.form(max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    async with form as parsed:
        yield parsed


def uploaded_file(form: FormData) -> UploadFile:
    """Raises NoFileProvided or NoFileSelected."""
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise NoFileProvided
    if not upload.filename:
        raise NoFileSelected
    return upload


def text_pairs(form: FormData) -> list[tuple[str, str]]:
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def upload_digest(file: BinaryIO) -> bytes:
    """Return the SHA-256 of a file, and rewind it."""
    digest = sha256()
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    file.seek(0)
    return digest.digest()


async def read_body(request: Request[Any], *, max_bytes: int) -> bytes:
    """Raises UploadTooLarge."""
    _check_declared_length(request, max_bytes)
    return await Request(request.scope, _limit_receive(request.receive, max_bytes)).body()


def _check_declared_length(request: Request[Any], max_bytes: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise UploadTooLarge(max_bytes)


def _limit_receive(receive: Receive, max_bytes: int) -> Receive:
    received = 0

    async def receive_within_limit() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise UploadTooLarge(max_bytes)
        return message

    return receive_within_limit
