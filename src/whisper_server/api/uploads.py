"""Uploads, admitted once they are complete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from starlette.datastructures import FormData

from whisper_server.api.requests.body import read_form, text_pairs, uploaded_file
from whisper_server.api.state import ServerRequest
from whisper_server.inference.request_context import RequestContext


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and what its client calls it; `pairs` has the parameters of the URL, and then the fields of the form."""

    context: RequestContext
    form: FormData
    file: BinaryIO
    name: str
    pairs: list[tuple[str, str]]

    @property
    def texts(self) -> dict[str, str]:
        """The last value of each parameter or field."""
        return dict(self.pairs)


@asynccontextmanager
async def admitted_upload(request: ServerRequest, *names: str, needs_model: bool = True) -> AsyncIterator[Upload]:
    """Yield the file of the first of these fields, by default `file`, while its request counts as admitted.

    If it `needs_model`, the served model is loaded meanwhile. Raises Overloaded, what `read_form()` raises,
    NoFileProvided or NoFileSelected.
    """
    admission = request.state.transcriber.admission
    admission.check_room()
    if needs_model:
        request.state.models.preload()
    async with read_form(request, max_bytes=request.state.settings.max_upload_bytes) as form:
        upload = uploaded_file(form, *names)
        pairs = text_pairs(request, form)
        with admission.admit() as context:
            yield Upload(context, form, upload.file, upload.filename or "", pairs)
