"""The operations of the API, as a table from which /openapi.json is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias

from whisper_server.api.errors import below_v1
from whisper_server.api.openapi.schemas import BOOLEAN, INTEGER, JSON, OBJECT, TEXT, array_of, object_of, ref
from whisper_server.api.requests import job_submission
from whisper_server.api.requests.openai_form import EXTENSIONS, LISTS, SINGLE
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.api.requests.parsers import Schema
from whisper_server.api.responses import job_result
from whisper_server.api.routes import jobs
from whisper_server.api.streaming.native import STREAM


@dataclass(frozen=True, slots=True)
class Response:
    """What a status means, and a schema for each media type."""

    summary: str
    content: Mapping[str, Schema] = field(default_factory=dict)


Responses: TypeAlias = Mapping[int, Response]
ErrorShape: TypeAlias = Callable[[Responses], Responses]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path, whose parameters are in braces.

    `fields` belong to a multipart form, which has a file if `file`. `lists` are fields that may be repeated, and so may
    the file if `lists_files`. `body` is JSON, or audio if `audio`. `public` operations need no key.
    """

    method: str
    path: str
    summary: str
    responses: Responses
    _: KW_ONLY
    fields: tuple[Field, ...] = ()
    lists: tuple[Field, ...] = ()
    query: tuple[Field, ...] = ()
    audio: bool = False
    file: bool = False
    lists_files: bool = False
    body: Schema | None = None
    public: bool = False


def _ok(summary: str, schema: Schema) -> dict[int, Response]:
    return {200: Response(summary, {JSON: schema})}


def _errors(**summaries: str) -> dict[int, Response]:
    """Return error responses by status, given as s400="…"."""
    return {int(name[1:]): Response(summary, {JSON: ref("Error")}) for name, summary in summaries.items()}


def _as_openai(responses: Responses) -> dict[int, Response]:
    return {status: Response(response.summary, {JSON: ref("OpenAIError")}) for status, response in responses.items()}


# The responses of middleware, which all operations can get that are not public.
_GUARDED = _errors(
    s401="no API key, or an unknown one",
    s403="a web page of another origin",
    s421="an unknown host name",
    s429="the limit of the API key is reached",
    s500="internal server error",
)
_UPLOAD = _errors(
    s400="the request is invalid",
    s408="the upload was too slow",
    s413="the upload or its audio is too long",
    s503="too many requests are waiting",
)
_LIVE = _errors(
    s400="the options or the audio are invalid",
    s408="no audio arrived for too long",
    s503="too many live sessions are open",
)
_SMALL = _errors(s400="the request is invalid", s413="the body is too large")
_NO_MODEL = _errors(s404="there is no such model")
_TIMEOUT = _errors(s504="the timeout of the request has passed")
_BAD_QUERY = _errors(s400="the query is invalid")
_JOBS_UNAVAILABLE = _errors(
    s503="jobs are not available, or there are too many", s507="there is no space left for jobs"
)
_MESSAGE = object_of({"message": TEXT})
_SESSION: Schema = {"type": "object", "properties": {"type": {"const": "transcription"}, "audio": OBJECT}}
_EXPIRY = object_of({"seconds": {"type": "integer", "minimum": 10, "maximum": 7200}}, optional=("seconds",))
_SUBTITLES = {"text/plain": TEXT, "application/x-subrip": TEXT, "text/vtt": TEXT}
_FILES = {**_SUBTITLES, "text/tab-separated-values": TEXT}


def guarded(path: str) -> Responses:
    """Return the responses of middleware for that path."""
    return _as_openai(_GUARDED) if below_v1(path) else _GUARDED


def _deleted(kind: str) -> dict[int, Response]:
    return _ok("it was removed", object_of({"id": TEXT, "object": {"const": kind}, "deleted": BOOLEAN}))


def _openai_audio(path: str, summary: str) -> Operation:
    content = {JSON: ref("OpenAITranscription"), "text/event-stream": TEXT, **_SUBTITLES}
    return Operation(
        "POST",
        path,
        summary,
        {200: Response("the transcript", content), **_as_openai({**_UPLOAD, **_NO_MODEL, **_TIMEOUT})},
        file=True,
        fields=(*SINGLE, *EXTENSIONS),
        lists=LISTS,
    )


def _jobs(path: str) -> tuple[Operation, ...]:
    """Return the operations below /v1/jobs or its alias."""
    shape = _as_openai if below_v1(path) else dict
    missing = shape({**_errors(s404="there is no such job"), **_JOBS_UNAVAILABLE})
    return (*_all_jobs(path, shape), *_one_job(path, shape, missing), *_job_content(path, shape, missing))


def _all_jobs(path: str, shape: ErrorShape) -> tuple[Operation, ...]:
    conflict = _errors(s422="the Idempotency-Key belongs to a different request")
    return (
        Operation(
            "POST",
            path,
            "Transcribe files in the background.",
            {
                202: Response("the job, or a list of several", {JSON: {"anyOf": [ref("Job"), ref("Jobs")]}}),
                **shape({**_UPLOAD, **_NO_MODEL, **_JOBS_UNAVAILABLE, **conflict}),
            },
            file=True,
            lists_files=True,
            fields=(*SINGLE, *EXTENSIONS, *job_submission.SINGLE),
            lists=(*LISTS, *job_submission.LISTS),
        ),
        Operation(
            "GET",
            path,
            "A page of jobs.",
            {**_ok("the page", ref("Jobs")), **shape({**_BAD_QUERY, **_JOBS_UNAVAILABLE})},
            query=jobs.PAGE,
        ),
    )


def _one_job(path: str, shape: ErrorShape, missing: Responses) -> tuple[Operation, ...]:
    one, job = f"{path}/{{id}}", _ok("the job", ref("Job"))
    finished = shape(_errors(s409="it is finished"))
    return (
        Operation("GET", one, "A job and its progress.", {**job, **missing, **shape(_BAD_QUERY)}, query=jobs.TEXT),
        Operation("DELETE", one, "Remove a job, its result and its audio.", {**_deleted("job"), **missing}),
        Operation("POST", f"{one}/cancel", "Cancel a job.", {**job, **missing, **finished}),
    )


def _job_content(path: str, shape: ErrorShape, missing: Responses) -> tuple[Operation, ...]:
    transcript = Response("the transcript", {JSON: ref("OpenAITranscription"), **_FILES})
    audio = Response("the audio", {"application/octet-stream": TEXT})
    events = Response("server-sent events", {"text/event-stream": TEXT})
    no_result = shape({**_BAD_QUERY, **_errors(s409="there is no result")})
    return (
        Operation(
            "GET",
            f"{path}/{{id}}/result",
            "The transcript of a job, in any format.",
            {200: transcript, **missing, **no_result},
            query=job_result.QUERY,
        ),
        Operation("GET", f"{path}/{{id}}/audio", "The audio of a job, while it is kept.", {200: audio, **missing}),
        Operation(
            "GET",
            f"{path}/{{id}}/events",
            "The events of a job, and new ones as they occur.",
            {200: events, 204: Response("there are no more events"), **missing, **shape(_BAD_QUERY)},
            query=jobs.AFTER,
        ),
    )


_MODELS = (
    Operation(
        "POST",
        "/reload",
        "Load another model and serve it if it works.",
        {**_ok("it is served", _MESSAGE), **_UPLOAD, **_NO_MODEL},
        body={"type": "object", "properties": {"model_name": {"type": "string", "default": "medium"}}},
    ),
    Operation(
        "POST",
        "/unload",
        "Free a model's weights until the next request.",
        {
            **_ok("they are freed", _MESSAGE),
            202: Response("they are freed after the requests that use them", {JSON: _MESSAGE}),
            **_errors(s400="the body names no model", s404="there is no such model", s413="the body is too large"),
        },
        body={"type": "object", "properties": {"model_name": TEXT}},
    ),
    Operation(
        "GET",
        "/v1/models",
        "The loaded models.",
        _ok("the models", object_of({"object": {"const": "list"}, "data": array_of(ref("Model"))})),
    ),
    Operation("GET", "/v1/models/{id}", "A loaded model.", {**_ok("the model", ref("Model")), **_as_openai(_NO_MODEL)}),
    Operation(
        "DELETE",
        "/v1/models/{id}",
        "Unload a model that was loaded on demand.",
        {**_deleted("model"), **_as_openai({**_NO_MODEL, **_errors(s409="it is the served model")})},
    ),
)
_REALTIME = (
    Operation(
        "POST",
        "/v1/stream",
        "Transcribe audio while it is being sent (PUT does the same; WebSockets: docs/live-protocols.md).",
        {
            200: Response("events, while the audio arrives", {"application/x-ndjson": TEXT, "text/event-stream": TEXT}),
            **_as_openai({**_LIVE, **_NO_MODEL}),
        },
        query=STREAM,
        audio=True,
    ),
    Operation(
        "POST",
        "/v1/realtime/client_secrets",
        "Create a short-lived key for /v1/realtime, with the configuration of its session.",
        {
            **_ok("the key", object_of({"value": TEXT, "expires_at": INTEGER, "session": OBJECT})),
            **_as_openai({**_SMALL, **_NO_MODEL}),
        },
        body=object_of({"session": _SESSION, "expires_after": _EXPIRY}, optional=("session", "expires_after")),
    ),
    Operation(
        "POST",
        "/v1/realtime/transcription_sessions",
        "The same with OpenAI's beta API.",
        {
            **_ok("the session with its key", object_of({"client_secret": OBJECT})),
            **_as_openai({**_SMALL, **_NO_MODEL}),
        },
        body=OBJECT,
    ),
)
_SYSTEM = (
    Operation("GET", "/health", "Whether the process runs.", _ok("it does", object_of({"status": TEXT})), public=True),
    Operation(
        "GET",
        "/ready",
        "Whether requests are served.",
        {
            **_ok("they are", object_of({"status": TEXT, "loading": TEXT}, optional=("loading",))),
            503: Response("they are not", {JSON: object_of({"status": TEXT, "error": TEXT})}),
        },
        public=True,
    ),
    Operation("GET", "/metrics", "Metrics for Prometheus.", {200: Response("the metrics", {"text/plain": TEXT})}),
    Operation("GET", "/openapi.json", "This description.", _ok("OpenAPI 3.1", OBJECT)),
)
OPERATIONS = (
    *_jobs("/v1/jobs"),
    *_jobs("/jobs"),
    Operation(
        "POST",
        "/recognise",
        "Transcribe an audio or video file.",
        {
            200: Response("the transcript", {JSON: object_of({"transcription": ref("Transcription")}), **_FILES}),
            **_UPLOAD,
            **_TIMEOUT,
        },
        file=True,
        fields=(*DECODING, *RENDERING, *EXECUTION),
    ),
    _openai_audio("/v1/audio/transcriptions", "Transcribe a file, with OpenAI's API."),
    _openai_audio("/v1/audio/translations", "Translate a file to English, with OpenAI's API."),
    *_REALTIME,
    *_MODELS,
    *_SYSTEM,
)
