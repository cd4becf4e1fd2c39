"""Multipart forms. A part for the audio is a file even if it has no file name, as some clients send it."""

from __future__ import annotations

from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from whisper_server.core.errors import BadRequest

MAX_FIELDS = 200
MAX_FIELD_BYTES = 64 * 1024
_FILES = (b"file", b"file[]", b"audio_file")


async def read_multipart(request: Request[Any], *, max_files: int) -> FormData:
    """Return a form, to be closed by the caller; raises BadRequest."""
    parser = _Parser(
        request.headers,
        request.stream(),
        max_files=max_files,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as exc:
        raise BadRequest(exc.message) from exc


class _Parser(MultiPartParser):
    def on_headers_finished(self) -> None:
        """Name the files that have no name: without one, a part would be text."""
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") in _FILES and b"filename" not in options:
            assert part.content_disposition is not None
            part.content_disposition += b'; filename="audio"'
        super().on_headers_finished()
