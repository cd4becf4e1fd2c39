"""What a client can ask for, as a table: what /openapi.json says comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from whisper_server.api.fields import Schema
from whisper_server.api.options import DECODING, HANDLING, RENDERING, Field

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_SCORE: Schema = {"type": ["number", "null"]}
_INTEGER: Schema = {"type": "integer"}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means; `content` has a schema for each media type."""

    summary: str
    content: Mapping[str, Schema] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path. `fields` are of a multipart form, with a file if `file`; `body` is JSON."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    fields: tuple[Field, ...] = ()
    file: bool = False
    body: Schema | None = None
    open: bool = False


SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": _TEXT}),
    "Word": _object({"word": _TEXT, "start": _NUMBER, "end": _NUMBER, "probability": _NUMBER}),
    "Segment": _object(
        {
            "id": _INTEGER,
            "seek": _INTEGER,
            "start": _NUMBER,
            "end": _NUMBER,
            "text": _TEXT,
            "tokens": _array(_INTEGER),
            "temperature": _NUMBER,
            "avg_logprob": _SCORE,
            "compression_ratio": _NUMBER,
            "no_speech_prob": _SCORE,
            "words": _array(_ref("Word")),
        },
        optional=("words",),
    ),
    "Transcription": _object(
        {"text": _TEXT, "segments": _array(_ref("Segment")), "language": _TEXT}, optional=("segments",)
    ),
}

_ERROR = {"application/json": _ref("Error")}
_JSON = "application/json"


def _errors(**summaries: str) -> dict[int, Answer]:
    """Answers by status, written s400="…"."""
    return {int(name[1:]): Answer(summary, _ERROR) for name, summary in summaries.items()}


# What the door and the common machinery may answer to any request that is not open.
GUARDED = _errors(
    s401="no key, or one that is not known",
    s403="a web page of another origin",
    s421="a name that is not this server's",
    s429="the key's share is used up",
    s500="something broke here",
)
_UPLOAD = _errors(
    s400="the request cannot be understood",
    s408="the upload came too slowly",
    s413="the upload or its audio is too long",
    s503="too much is waiting already",
)
_STATUS = _object({"status": _TEXT})

OPERATIONS = (
    Operation(
        method="POST",
        path="/recognise",
        summary="Transcribe a file: any audio, or the sound of any video.",
        file=True,
        fields=(*DECODING, *RENDERING, *HANDLING),
        answers={
            200: Answer(
                "the transcript",
                {
                    _JSON: _object({"transcription": _ref("Transcription")}),
                    "text/plain": _TEXT,
                    "application/x-subrip": _TEXT,
                    "text/vtt": _TEXT,
                    "text/tab-separated-values": _TEXT,
                },
            ),
            **_UPLOAD,
            **_errors(s504="the request's time is up"),
        },
    ),
    Operation(
        method="POST",
        path="/reload",
        summary="Load another model and swap it in if it works.",
        body={"type": "object", "properties": {"model_name": {"type": "string", "default": "medium"}}},
        answers={
            200: Answer("it serves", {_JSON: _object({"message": _TEXT})}),
            **_UPLOAD,
            **_errors(s404="no such model"),
        },
    ),
    Operation(
        method="GET",
        path="/health",
        summary="Whether the process lives.",
        answers={200: Answer("it does", {_JSON: _STATUS})},
        open=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        summary="Whether the model serves.",
        answers={
            200: Answer("it does", {_JSON: _STATUS}),
            503: Answer("it does not", {_JSON: _object({"status": _TEXT, "error": _TEXT})}),
        },
        open=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="What the server does, for Prometheus.",
        answers={200: Answer("the metrics", {"text/plain": _TEXT})},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        summary="This description.",
        answers={200: Answer("OpenAPI 3.1", {_JSON: {"type": "object"}})},
    ),
)
