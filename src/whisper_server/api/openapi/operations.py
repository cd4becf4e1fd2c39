"""What a client can ask for, as a table: what /openapi.json says comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from whisper_server.api.errors import below_v1
from whisper_server.api.requests import job_submission
from whisper_server.api.requests.openai_form import EXTENSIONS, LISTS, SINGLE
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.api.requests.parsers import Schema
from whisper_server.api.responses import job_result
from whisper_server.api.routes import jobs
from whisper_server.api.streaming.native import STREAM
from whisper_server.jobs.job import STATES

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
    """A method of a path. `fields` are of a multipart form, with a file if `file`; `body` is JSON, or sound if `audio`.

    `lists` are fields that may come several times, as the file if `lists_files`. `parameters` are the parts of the path
    that are in braces, and `query` comes after it.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    fields: tuple[Field, ...] = ()
    lists: tuple[Field, ...] = ()
    parameters: tuple[str, ...] = ()
    query: tuple[Field, ...] = ()
    audio: bool = False
    file: bool = False
    lists_files: bool = False
    body: Schema | None = None
    open: bool = False


_NULLABLE: Schema = {"type": ["string", "null"]}

SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": _TEXT}),
    "OpenAIError": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT, "param": _NULLABLE, "code": _NULLABLE})}
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": _INTEGER,
            "owned_by": _TEXT,
            "state": {"enum": ["loaded", "parked", "released", "loading"]},
            "memory": {"type": "object"},
        },
        optional=("memory",),
    ),
    "Usage": {"type": "object", "properties": {"type": _TEXT, "seconds": _NUMBER}, "required": ["type"]},
    "OpenAITranscription": _object(
        {
            "text": _TEXT,
            "task": _TEXT,
            "language": _TEXT,
            "duration": _NUMBER,
            "segments": _array({"type": "object"}),
            "words": _array({"type": "object"}),
            "logprobs": _array({"type": "object"}),
            "languages": _array({"type": "object"}),
            "usage": _ref("Usage"),
        },
        optional=("task", "language", "duration", "segments", "words", "logprobs", "languages", "usage"),
    ),
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

_JSON = "application/json"
_NULLABLE_NUMBER: Schema = {"type": ["number", "null"]}
_NULLABLE_INTEGER: Schema = {"type": ["integer", "null"]}
_NULLABLE_OBJECT: Schema = {"type": ["object", "null"]}

SCHEMAS["Job"] = _object(
    {
        "id": _TEXT,
        "object": {"const": "job"},
        "state": {"enum": list(STATES)},
        "created_at": _NUMBER,
        "started_at": _NULLABLE_NUMBER,
        "finished_at": _NULLABLE_NUMBER,
        "expires_at": _NULLABLE_NUMBER,
        "file": _object({"name": _TEXT, "bytes": _NULLABLE_INTEGER, "url": _NULLABLE, "kept": {"type": "boolean"}}),
        "model": _TEXT,
        "task": _TEXT,
        "response_format": _TEXT,
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "audio_seconds": _NULLABLE_NUMBER,
        "audio_seconds_done": _NUMBER,
        "speed": _NULLABLE_NUMBER,
        "estimated_finish_at": _NULLABLE_NUMBER,
        "position": _NULLABLE_INTEGER,
        "waiting_for_model": {"type": "boolean"},
        "restarts": _INTEGER,
        "cached": {"type": "boolean"},
        "language": _NULLABLE,
        "error": _NULLABLE_OBJECT,
        "callback": _NULLABLE_OBJECT,
        "text": _TEXT,
    },
    optional=("text",),
)
SCHEMAS["Jobs"] = _object(
    {
        "object": {"const": "list"},
        "data": _array(_ref("Job")),
        "first_id": _NULLABLE,
        "last_id": _NULLABLE,
        "has_more": {"type": "boolean"},
    },
    optional=("first_id", "last_id", "has_more"),
)


def _errors(**summaries: str) -> dict[int, Answer]:
    """Answers by status, written s400="…"."""
    return {int(name[1:]): Answer(summary, {_JSON: _ref("Error")}) for name, summary in summaries.items()}


def _as_openai(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    return {status: Answer(answer.summary, {_JSON: _ref("OpenAIError")}) for status, answer in answers.items()}


# What the door and the common machinery may answer to any request that is not open.
_GUARDED = _errors(
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
_LIVE = _errors(
    s400="the options or the audio cannot be understood",
    s408="no audio came for too long",
    s503="too many live sessions are open",
)
_SMALL = _errors(s400="the request cannot be understood", s413="the body is too large")
_SESSION: Schema = {"type": "object", "properties": {"type": {"const": "transcription"}, "audio": {"type": "object"}}}
_EXPIRY = _object({"seconds": {"type": "integer", "minimum": 10, "maximum": 7200}}, optional=("seconds",))
_MODEL = _errors(s404="no such model")
_LATE = _errors(s504="the request's time is up")
_STATUS = _object({"status": _TEXT})


def guarded(path: str) -> Mapping[int, Answer]:
    """Return what any request of that path may get unless the path is open."""
    return _as_openai(_GUARDED) if below_v1(path) else _GUARDED


def _openai_audio(path: str, summary: str) -> Operation:
    return Operation(
        method="POST",
        path=path,
        summary=summary,
        file=True,
        fields=(*SINGLE, *EXTENSIONS),
        lists=LISTS,
        answers={
            200: Answer(
                "the transcript",
                {
                    _JSON: _ref("OpenAITranscription"),
                    "text/event-stream": _TEXT,
                    "text/plain": _TEXT,
                    "application/x-subrip": _TEXT,
                    "text/vtt": _TEXT,
                },
            ),
            **_as_openai({**_UPLOAD, **_MODEL, **_LATE}),
        },
    )


def _jobs(path: str) -> tuple[Operation, ...]:
    """What there is below that path, which is /v1/jobs or its alias."""
    shaped = _as_openai if below_v1(path) else dict
    broken = _errors(s503="jobs cannot be kept now, or too many are", s507="no space is left for jobs")
    absent = shaped({**_errors(s404="no such job"), **broken})
    job = {200: Answer("the job", {_JSON: _ref("Job")})}
    parameters = ("id",)
    deleted = _object({"id": _TEXT, "object": {"const": "job"}, "deleted": {"type": "boolean"}})
    files = {"text/plain": _TEXT, "application/x-subrip": _TEXT, "text/vtt": _TEXT, "text/tab-separated-values": _TEXT}
    return (
        Operation(
            method="POST",
            path=path,
            summary="Transcribe files in the background.",
            file=True,
            lists_files=True,
            fields=(*SINGLE, *EXTENSIONS, *job_submission.SINGLE),
            lists=(*LISTS, *job_submission.LISTS),
            answers={
                202: Answer("the job, or a list of several", {_JSON: {"anyOf": [_ref("Job"), _ref("Jobs")]}}),
                **shaped(
                    {**_UPLOAD, **_MODEL, **broken, **_errors(s422="the Idempotency-Key came with another request")}
                ),
            },
        ),
        Operation(
            method="GET",
            path=path,
            summary="A page of jobs.",
            query=jobs.PAGE,
            answers={
                200: Answer("the page", {_JSON: _ref("Jobs")}),
                **shaped({**_errors(s400="the query cannot be understood"), **broken}),
            },
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}",
            summary="A job and how far it has come.",
            parameters=parameters,
            query=jobs.TEXT,
            answers={**job, **absent, **shaped(_errors(s400="the query cannot be understood"))},
        ),
        Operation(
            method="DELETE",
            path=f"{path}/{{id}}",
            summary="Remove a job, its result and its file.",
            parameters=parameters,
            answers={200: Answer("it is gone", {_JSON: deleted}), **absent},
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/result",
            summary="The transcript of a job, in any format.",
            parameters=parameters,
            query=job_result.QUERY,
            answers={
                200: Answer("the transcript", {_JSON: _ref("OpenAITranscription"), **files}),
                **absent,
                **shaped(_errors(s400="the query cannot be understood", s409="there is no result")),
            },
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/audio",
            summary="The file of a job, while it is kept.",
            parameters=parameters,
            answers={200: Answer("the file", {"application/octet-stream": _TEXT}), **absent},
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/events",
            summary="What has happened to a job, and then what happens.",
            parameters=parameters,
            query=jobs.AFTER,
            answers={
                200: Answer("server-sent events", {"text/event-stream": _TEXT}),
                204: Answer("nothing comes any more"),
                **absent,
                **shaped(_errors(s400="the query cannot be understood")),
            },
        ),
        Operation(
            method="POST",
            path=f"{path}/{{id}}/cancel",
            summary="Stop a job.",
            parameters=parameters,
            answers={**job, **absent, **shaped(_errors(s409="it has ended"))},
        ),
    )


OPERATIONS = (
    *_jobs("/v1/jobs"),
    *_jobs("/jobs"),
    Operation(
        method="POST",
        path="/recognise",
        summary="Transcribe a file: any audio, or the sound of any video.",
        file=True,
        fields=(*DECODING, *RENDERING, *EXECUTION),
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
            **_LATE,
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
            **_MODEL,
        },
    ),
    Operation(
        method="POST",
        path="/unload",
        summary="Drop a model's weights until a request wants them again.",
        body={"type": "object", "properties": {"model_name": {"type": "string"}}},
        answers={
            200: Answer("they are gone", {_JSON: _object({"message": _TEXT})}),
            202: Answer("they go after the requests that use them", {_JSON: _object({"message": _TEXT})}),
            **_errors(s400="the body names no model", s404="no such model", s413="the body is too large"),
        },
    ),
    _openai_audio("/v1/audio/transcriptions", "Transcribe a file, as OpenAI's clients ask for it."),
    _openai_audio("/v1/audio/translations", "Translate a file to English, as OpenAI's clients ask for it."),
    Operation(
        method="POST",
        path="/v1/stream",
        summary="Transcribe audio while it is being sent (PUT does the same; WebSockets: docs/live-protocols.md).",
        query=STREAM,
        audio=True,
        answers={
            200: Answer("events, while the audio comes", {"application/x-ndjson": _TEXT, "text/event-stream": _TEXT}),
            **_as_openai({**_LIVE, **_MODEL}),
        },
    ),
    Operation(
        method="POST",
        path="/v1/realtime/client_secrets",
        summary="A short-lived key for a WebSocket of /v1/realtime, and what the session is to be.",
        body=_object({"session": _SESSION, "expires_after": _EXPIRY}, optional=("session", "expires_after")),
        answers={
            200: Answer(
                "the key", {_JSON: _object({"value": _TEXT, "expires_at": _INTEGER, "session": {"type": "object"}})}
            ),
            **_as_openai({**_SMALL, **_MODEL}),
        },
    ),
    Operation(
        method="POST",
        path="/v1/realtime/transcription_sessions",
        summary="The same in the notation of OpenAI's beta.",
        body={"type": "object"},
        answers={
            200: Answer("the session with its key", {_JSON: _object({"client_secret": {"type": "object"}})}),
            **_as_openai({**_SMALL, **_MODEL}),
        },
    ),
    Operation(
        method="GET",
        path="/v1/models",
        summary="The models that are loaded.",
        answers={
            200: Answer("the models", {_JSON: _object({"object": {"const": "list"}, "data": _array(_ref("Model"))})})
        },
    ),
    Operation(
        method="GET",
        path="/v1/models/{id}",
        summary="A model that is loaded.",
        parameters=("id",),
        answers={200: Answer("the model", {_JSON: _ref("Model")}), **_as_openai(_MODEL)},
    ),
    Operation(
        method="DELETE",
        path="/v1/models/{id}",
        summary="Unload a model that was loaded on demand.",
        parameters=("id",),
        answers={
            200: Answer(
                "it is gone",
                {_JSON: _object({"id": _TEXT, "object": {"const": "model"}, "deleted": {"type": "boolean"}})},
            ),
            **_as_openai({**_MODEL, **_errors(s409="the server serves it")}),
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
            200: Answer("it does", {_JSON: _object({"status": _TEXT, "loading": _TEXT}, optional=("loading",))}),
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
