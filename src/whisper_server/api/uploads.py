"""Uploads of the endpoints that respond when all is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.state import ServerRequest
from whisper_server.inference.request_context import RequestContext


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, what its client calls it, and the last value of each field of the form and of the query."""

    context: RequestContext
    file: BinaryIO
    name: str
    texts: dict[str, str]


@asynccontextmanager
async def admitted_upload(request: ServerRequest, *names: str) -> AsyncIterator[Upload]:
    """Yield the file of the first of these fields, by default `file`, while its request counts as admitted.

    Raises Overloaded, what `read_form()` raises, NoFileProvided or NoFileSelected.
    """
    admission = request.state.transcriber.admission
    admission.check_room()
    request.state.models.preload()
    async with read_form(request, max_bytes=request.state.settings.max_upload_bytes) as form:
        upload = uploaded_file(form, *names)
        texts = dict(text_pairs(request, form))
        with admission.admit() as context:
            yield Upload(context, upload.file, upload.filename or "", texts)
