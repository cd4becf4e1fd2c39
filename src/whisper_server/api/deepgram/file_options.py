"""The parameters of `POST /v1/listen`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from whisper_server.api.deepgram.options import (
    KEYTERMS,
    LANGUAGE,
    MODEL,
    UNSUPPORTED,
    Warnings,
    check_query,
    is_multilingual,
    keyterms,
    own_model,
    warnings,
)
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG, PARSE_ERRORS, Parser, number, one_of, text_up_to
from whisper_server.api.requests.parsers import LANGUAGE as LANGUAGE_CODE
from whisper_server.core.errors import BadOption

_DEFAULT_SPLIT = 0.8


def _parse_detection(text: str) -> bool | str:
    try:
        return bool(FLAG.parse(text))
    except PARSE_ERRORS:
        return str(LANGUAGE_CODE.parse(text))


_DETECTION = Parser(
    _parse_detection,
    "true, false, or a language",
    {"anyOf": [{"type": "boolean"}, LANGUAGE_CODE.schema]},
)
SINGLE = (
    MODEL,
    LANGUAGE,
    Field("smart_format", FLAG, "add paragraphs; the text is always formatted by the model (false)"),
    Field("paragraphs", FLAG, "add paragraphs (false)"),
    Field("utterances", FLAG, "add utterances (false)"),
    Field("utt_split", number(0.1, 60), "silence in seconds between two utterances (0.8)"),
    Field("multichannel", FLAG, "transcribe each channel on its own (false)"),
    Field("callback", text_up_to(2_000), "send the result to this URL, whose host must be one of --webhook-host"),
    Field("callback_method", one_of("post", "put"), "how to send it (post)"),
)
LISTS = (
    Field("detect_language", _DETECTION, "detect the language, among these if there are any; may be repeated"),
    *KEYTERMS,
    Field("tag", text_up_to(300), "returned in the metadata as tags; may be repeated"),
    Field("extra", text_up_to(2_048), "NAME:VALUE, returned in the metadata; may be repeated"),
)
_MAX_REPEATED = 100


@dataclass(frozen=True, slots=True)
class Rendering:
    """What the response has. `split` is the silence between utterances in seconds.

    `detected` says that the language was detected, and `multilingual` that the client asks for the language of words.
    """

    detected: bool
    multilingual: bool
    paragraphs: bool
    utterances: bool
    split: float
    tags: Sequence[str]
    extra: dict[str, str]
    warnings: Warnings


@dataclass(frozen=True, slots=True)
class FileRequest:
    """`decoding` is for faster-whisper's `transcribe()`, and `execution` for RunOptions."""

    decoding: dict[str, Any]
    execution: dict[str, Any]
    rendering: Rendering
    multichannel: bool
    callback: str
    callback_method: str


def parse_file_request(query: QueryParams) -> FileRequest:
    """Parse the query and ignore options without effect here; raises BadOption."""
    check_query(query, {})
    parsed = parse_fields(SINGLE, query)
    lists = {field.name: _values(query, field) for field in LISTS}
    callback = parsed.get("callback", "")
    if callback and parsed.get("multichannel"):
        raise BadOption("multichannel", True, "false with a callback")
    candidates = [value for value in lists["detect_language"] if isinstance(value, str)]
    language = None if candidates or True in lists["detect_language"] else parsed.get("language")
    terms = keyterms(query)
    return FileRequest(
        decoding={
            "word_timestamps": True,
            **({"language": language} if language else {}),
            **({"hotwords": terms} if terms else {}),
        },
        execution={"model": own_model(parsed.get("model", "")), "languages": tuple(dict.fromkeys(candidates))},
        rendering=Rendering(
            detected=language is None,
            multilingual=is_multilingual(query),
            paragraphs=parsed.get("paragraphs", False) or parsed.get("smart_format", False),
            utterances=parsed.get("utterances", False),
            split=parsed.get("utt_split", _DEFAULT_SPLIT),
            tags=lists["tag"],
            extra={name: value for name, _, value in (text.partition(":") for text in lists["extra"])},
            warnings=warnings(query, UNSUPPORTED),
        ),
        multichannel=parsed.get("multichannel", False),
        callback=callback,
        callback_method=parsed.get("callback_method", "post").upper(),
    )


def _values(query: QueryParams, field: Field) -> list[Any]:
    texts = [text for text in query.getlist(field.name) if text.strip()]
    if len(texts) > _MAX_REPEATED:
        raise BadOption(field.name, f"{len(texts)} values", f"at most {_MAX_REPEATED}")
    return [field.parse(text) for text in texts]
