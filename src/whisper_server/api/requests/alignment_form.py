"""The fields of `POST /v1/audio/alignments`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from starlette.datastructures import FormData, UploadFile

from whisper_server.api.requests.form_notation import FormFields
from whisper_server.api.requests.options import EXECUTION, RENDERING, Field, SubtitleLayout, parse_fields
from whisper_server.api.requests.parsers import LANGUAGE_OR_AUTO, one_of, text_up_to
from whisper_server.api.requests.text import check_pairs
from whisper_server.core.errors import BadOption, NoTextProvided
from whisper_server.inference.alignment.text import SegmentUnit

_MAX_CHARACTERS = 500_000
_MAX_BYTES = 4 * _MAX_CHARACTERS

TEXT = Field("text", text_up_to(_MAX_CHARACTERS), "what is spoken; a text of more than 64 KiB must be sent as a file")
_OPTIONS = (
    Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected in the audio if absent"),
    Field(
        "segment_by",
        one_of("sentence", "line"),
        "what makes a segment; a sentence ends with its line (sentence)",
    ),
)
_RENDERING = (
    Field("response_format", one_of("json", "srt", "vtt"), "the format of the response body (json)"),
    *(field for field in RENDERING if field.name in SubtitleLayout.__dataclass_fields__),
)
_EXECUTION = (
    Field("model", text_up_to(300), "the name of a loaded model, or one of OpenAI's names for the served model"),
    Field("mode", one_of("batched", "sequential"), "how the audio is transcribed; batched is faster (batched)"),
    *(field for field in EXECUTION if field.name != "mode"),
)
FIELDS = (TEXT, *_OPTIONS, *_RENDERING, *_EXECUTION)


@dataclass(frozen=True, slots=True)
class AlignmentRequest:
    """`execution` is for `RunOptions`; the language is detected if it is None."""

    text: str
    language: str | None
    segment_by: SegmentUnit
    response_format: str
    layout: SubtitleLayout
    execution: dict[str, Any]


def parse_alignment_form(pairs: Iterable[tuple[str, str]], uploaded_text: str | None) -> AlignmentRequest:
    """Parse the fields and ignore unknown ones; an uploaded text counts first. Raises BadOption or NoTextProvided."""
    fields = FormFields.collect(pairs)
    texts = {field.name: fields.value(field.name) for field in FIELDS}
    text = TEXT.parse(texts["text"] if uploaded_text is None else uploaded_text)
    if not text.strip():
        raise NoTextProvided
    options, rendering = parse_fields(_OPTIONS, texts), parse_fields(_RENDERING, texts)
    response_format = rendering.pop("response_format", "json")
    return AlignmentRequest(
        text=text,
        language=options.get("language"),
        segment_by=cast(SegmentUnit, options.get("segment_by", "sentence")),
        response_format=response_format,
        layout=SubtitleLayout(**rendering),
        execution={"mode": "batched", **parse_fields(_EXECUTION, texts)},
    )


async def read_uploaded_text(form: FormData) -> str | None:
    """Return the text of the part `text` if it is a file, and None if it is a field; raises BadOption."""
    upload = form.get("text")
    if not isinstance(upload, UploadFile):
        return None
    content = await upload.read(_MAX_BYTES + 1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        allowed = f"UTF-8 text of {TEXT.parser.allowed}"
        raise BadOption("text", upload.filename or "a file", allowed) from None
    check_pairs([("text", text)])
    return text
