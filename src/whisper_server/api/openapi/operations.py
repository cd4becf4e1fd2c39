"""The operations of the API, as a table from which /openapi.json is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace

from whisper_server.api.compatible import asr_webservice, whisper_cpp
from whisper_server.api.compatible.whisper_cpp_request import INFERENCE
from whisper_server.api.deepgram import file_options
from whisper_server.api.deepgram.grant import MAX_SECONDS
from whisper_server.api.openapi.schemas import BOOLEAN, INTEGER, JSON, OBJECT, TEXT, array_of, object_of, ref
from whisper_server.api.requests import alignment_form, job_submission
from whisper_server.api.requests.openai_form import EXTENSIONS, LISTS, SINGLE
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.api.requests.parsers import Schema
from whisper_server.api.responses import job_result
from whisper_server.api.routes import jobs, models, speech_activity
from whisper_server.api.streaming.native import STREAM


@dataclass(frozen=True, slots=True)
class Response:
    """What a status means, and a schema for each media type."""

    summary: str
    content: Mapping[str, Schema] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path, whose parameters are in braces. `errors` says what each status of an error means.

    `fields` belong to a multipart form, which has the audio in the field `file`, or the audio is the whole body. A
    request needs the fields that are `required`. `lists` are fields that may be repeated, and so may the file if
    `lists_files`. Another body is JSON as `body` describes, or audio if `audio`, or either. `public` operations need no
    key.
    """

    method: str
    path: str
    summary: str
    responses: Mapping[int, Response]
    errors: Mapping[int, str] = field(default_factory=dict)
    _: KW_ONLY
    fields: tuple[Field, ...] = ()
    required: tuple[str, ...] = ()
    lists: tuple[Field, ...] = ()
    query: tuple[Field, ...] = ()
    audio: bool = False
    file: str = ""
    lists_files: bool = False
    body: Schema | None = None
    public: bool = False


# The errors of middleware, which all operations can return that are not public.
GUARDED = {
    401: "no API key, or an unknown one",
    403: "a web page of another origin, or an API key that may not do this",
    421: "an unknown host name",
    429: "the limit of the API key is reached",
    500: "internal server error",
}
_UPLOAD = {
    400: "the request is invalid",
    408: "the upload was too slow",
    413: "the upload or its audio is too long",
    503: "too many requests are waiting",
}
_FORM = {**_UPLOAD, 507: "the temporary directory of the server is full"}
_BODY = {400: "the request is invalid", 413: "the body is too large"}
_QUERY = {400: "the query is invalid"}
_NO_MODEL = {404: "there is no such model"}
_TIMEOUT = {504: "the timeout of the request has passed"}
_JOBS_UNAVAILABLE = {503: "jobs are not available, or there are too many", 507: "there is no space left for jobs"}
_NO_JOB = {404: "there is no such job", **_JOBS_UNAVAILABLE}

_MESSAGE = object_of({"message": TEXT})
_SESSION: Schema = {"type": "object", "properties": {"type": {"const": "transcription"}, "audio": OBJECT}}
_EXPIRY = object_of({"seconds": {"type": "integer", "minimum": 10, "maximum": 7200}}, optional=("seconds",))
_REQUEST_ID = object_of({"request_id": TEXT})
_LIFETIME: Schema = {"type": "number", "minimum": 1, "maximum": MAX_SECONDS}
_SUBTITLES = {"text/plain": TEXT, "application/x-subrip": TEXT, "text/vtt": TEXT}
_FILES = {**_SUBTITLES, "text/tab-separated-values": TEXT}


def _ok(summary: str, schema: Schema) -> dict[int, Response]:
    return {200: Response(summary, {JSON: schema})}


def _deleted(kind: str) -> dict[int, Response]:
    return _ok("it was removed", object_of({"id": TEXT, "object": {"const": kind}, "deleted": BOOLEAN}))


def _openai_audio(path: str, summary: str) -> Operation:
    content = {JSON: ref("OpenAITranscription"), "text/event-stream": TEXT, **_SUBTITLES}
    return Operation(
        "POST",
        path,
        summary,
        {200: Response("the transcript", content)},
        {**_FORM, **_NO_MODEL, **_TIMEOUT},
        file="file",
        fields=(*SINGLE, *EXTENSIONS),
        lists=LISTS,
    )


_TRANSCRIPTION = (
    Operation(
        "POST",
        "/recognise",
        "Transcribe an audio or video file.",
        {200: Response("the transcript", {JSON: object_of({"transcription": ref("Transcription")}), **_FILES})},
        {**_FORM, **_TIMEOUT},
        file="file",
        fields=(*DECODING, *RENDERING, *EXECUTION),
    ),
    _openai_audio("/v1/audio/transcriptions", "Transcribe a file, with OpenAI's API."),
    _openai_audio("/v1/audio/translations", "Translate a file to English, with OpenAI's API."),
    Operation(
        "POST",
        "/v1/audio/alignments",
        "When each word of a known text is spoken in a file.",
        {200: Response("the times", {JSON: ref("Alignment"), **_SUBTITLES})},
        {**_FORM, **_NO_MODEL, **_TIMEOUT},
        file="file",
        fields=alignment_form.FIELDS,
        required=("text",),
    ),
    Operation(
        "POST",
        "/v1/audio/speech-activity",
        "Where somebody speaks in a file.",
        _ok("the speech", ref("SpeechActivity")),
        {**_FORM, **_TIMEOUT},
        file="file",
        fields=speech_activity.FIELDS,
    ),
)
_COMPATIBLE = (
    Operation(
        "POST",
        "/asr",
        "Transcribe a file, with the API of whisper-asr-webservice; the parameters are those of the query, too.",
        {200: Response("the transcript", {"text/plain": TEXT})},
        {**_FORM, **_TIMEOUT},
        file="audio_file",
        fields=asr_webservice.ASR,
    ),
    Operation(
        "POST",
        "/detect-language",
        "Detect the language of a file, with the API of whisper-asr-webservice.",
        _ok(
            "the language",
            object_of({"detected_language": TEXT, "language_code": TEXT, "confidence": {"type": "number"}}),
        ),
        {**_FORM, **_TIMEOUT},
        file="audio_file",
        fields=asr_webservice.DETECT_LANGUAGE,
    ),
    Operation(
        "POST",
        "/inference",
        "Transcribe a file, with the API of whisper.cpp's server.",
        {200: Response("the transcript", {JSON: OBJECT, **_SUBTITLES})},
        {**_FORM, **_TIMEOUT},
        file="file",
        fields=INFERENCE,
    ),
    Operation(
        "POST",
        "/load",
        "Load another model, with the API of whisper.cpp's server.",
        {200: Response("it is served", {"text/plain": TEXT})},
        {**_UPLOAD, **_NO_MODEL},
        fields=whisper_cpp.LOAD,
    ),
)
_ALL_JOBS, _ONE_JOB = "/v1/jobs", "/v1/jobs/{id}"
_JOB = _ok("the job", ref("Job"))
_JOBS = (
    Operation(
        "POST",
        _ALL_JOBS,
        "Transcribe files in the background.",
        {202: Response("the job, or a list of several", {JSON: {"anyOf": [ref("Job"), ref("Jobs")]}})},
        {**_FORM, **_NO_MODEL, **_JOBS_UNAVAILABLE, 422: "the Idempotency-Key belongs to a different request"},
        file="file",
        lists_files=True,
        fields=(*SINGLE, *EXTENSIONS, *job_submission.SINGLE),
        lists=(*LISTS, *job_submission.LISTS),
    ),
    Operation(
        "GET",
        _ALL_JOBS,
        "A page of jobs.",
        _ok("the page", ref("Jobs")),
        {**_QUERY, **_JOBS_UNAVAILABLE},
        query=jobs.PAGE,
    ),
    Operation("GET", _ONE_JOB, "A job and its progress.", _JOB, {**_NO_JOB, **_QUERY}, query=jobs.TEXT),
    Operation("DELETE", _ONE_JOB, "Remove a job, its result and its audio.", _deleted("job"), _NO_JOB),
    Operation("POST", f"{_ONE_JOB}/cancel", "Cancel a job.", _JOB, {**_NO_JOB, 409: "it is finished"}),
    Operation(
        "GET",
        f"{_ONE_JOB}/result",
        "The transcript of a job, in any format.",
        {200: Response("the transcript", {JSON: ref("OpenAITranscription"), **_FILES})},
        {**_NO_JOB, **_QUERY, 409: "there is no result"},
        query=job_result.QUERY,
    ),
    Operation(
        "GET",
        f"{_ONE_JOB}/audio",
        "The audio of a job, while it is kept.",
        {200: Response("the audio", {"application/octet-stream": TEXT})},
        _NO_JOB,
    ),
    Operation(
        "GET",
        f"{_ONE_JOB}/events",
        "The events of a job, and new ones as they occur.",
        {200: Response("server-sent events", {"text/event-stream": TEXT}), 204: Response("there are no more events")},
        {**_NO_JOB, **_QUERY},
        query=jobs.AFTER,
    ),
)
_ANY_MODEL: Schema = {"anyOf": [ref("Model"), ref("AvailableModel")]}
_MODELS = (
    Operation(
        "POST",
        "/reload",
        "Load another model and serve it if it works.",
        _ok("it is served", _MESSAGE),
        {**_UPLOAD, **_NO_MODEL},
        body={"type": "object", "properties": {"model_name": {"type": "string", "default": "medium"}}},
    ),
    Operation(
        "POST",
        "/unload",
        "Free a model's weights until the next request.",
        {
            **_ok("they are freed", _MESSAGE),
            202: Response("they are freed after the requests that use them", {JSON: _MESSAGE}),
        },
        {**_BODY, **_NO_MODEL, 400: "the body names no model"},
        body={"type": "object", "properties": {"model_name": TEXT}},
    ),
    Operation(
        "GET",
        "/v1/models",
        "The loaded models, or those that could be served.",
        _ok("the models", object_of({"object": {"const": "list"}, "data": array_of(_ANY_MODEL)})),
        _QUERY,
        query=models.LIST,
    ),
    Operation("GET", "/v1/models/{id}", "A loaded model.", _ok("the model", ref("Model")), _NO_MODEL),
    Operation(
        "POST",
        "/v1/models/{id}",
        "Download a model, so that it can be served.",
        {200: Response("the model, or its progress", {JSON: ref("AvailableModel"), "text/event-stream": TEXT})},
        {**_QUERY, **_NO_MODEL, 503: "the model hub does not respond"},
        query=models.PULL,
    ),
    Operation(
        "DELETE",
        "/v1/models/{id}",
        "Unload a model that was loaded on demand, or delete a model's files.",
        _deleted("model"),
        {**_QUERY, **_NO_MODEL, 409: "it is the served model, in use, or not the server's to delete"},
        query=models.DELETE,
    ),
)
_REALTIME = (
    Operation(
        "POST",
        "/v1/stream",
        "Transcribe audio while it is being sent (PUT does the same; WebSockets: docs/live-protocols.md).",
        {200: Response("events, while the audio arrives", {"application/x-ndjson": TEXT, "text/event-stream": TEXT})},
        {
            400: "the options or the audio are invalid",
            **_NO_MODEL,
            408: "no audio arrived for too long",
            503: "too many live sessions are open",
        },
        query=STREAM,
        audio=True,
    ),
    Operation(
        "POST",
        "/v1/realtime/client_secrets",
        "Create a short-lived key for /v1/realtime, with the configuration of its session.",
        _ok("the key", object_of({"value": TEXT, "expires_at": INTEGER, "session": OBJECT})),
        {**_BODY, **_NO_MODEL},
        body=object_of({"session": _SESSION, "expires_after": _EXPIRY}, optional=("session", "expires_after")),
    ),
    Operation(
        "POST",
        "/v1/realtime/transcription_sessions",
        "The same with OpenAI's beta API.",
        _ok("the session with its key", object_of({"client_secret": OBJECT})),
        {**_BODY, **_NO_MODEL},
        body=OBJECT,
    ),
)
_DEEPGRAM = (
    Operation(
        "POST",
        "/v1/listen",
        "Transcribe a file, with Deepgram's API.",
        _ok(
            "the transcript, or only the id of a request with a callback",
            {"anyOf": [ref("DeepgramTranscription"), _REQUEST_ID]},
        ),
        {**_FORM, **_NO_MODEL, **_TIMEOUT, 502: "the audio could not be downloaded"},
        query=(*file_options.SINGLE, *file_options.LISTS),
        audio=True,
        body=object_of({"url": TEXT}),
    ),
    Operation(
        "POST",
        "/v1/auth/grant",
        "Create a short-lived key for /v1/listen.",
        _ok("the key", object_of({"access_token": TEXT, "expires_in": INTEGER})),
        _BODY,
        body=object_of(
            {"ttl_seconds": {"type": "number", "minimum": 1, "maximum": MAX_SECONDS}}, optional=("ttl_seconds",)
        ),
    ),
)
_SYSTEM = (
    Operation("GET", "/health", "Whether the process runs.", _ok("it does", object_of({"status": TEXT})), public=True),
    Operation(
        "GET",
        "/ready",
        "Whether requests are served.",
        {
            **_ok("they are", object_of({"status": TEXT, "loading": TEXT, "jobs": TEXT}, optional=("loading", "jobs"))),
            503: Response(
                "they are not", {JSON: object_of({"status": TEXT, "error": TEXT, "jobs": TEXT}, optional=("jobs",))}
            ),
        },
        public=True,
    ),
    Operation("GET", "/metrics", "Metrics for Prometheus.", {200: Response("the metrics", {"text/plain": TEXT})}),
    Operation("GET", "/openapi.json", "This description.", _ok("OpenAPI 3.1", OBJECT)),
)
OPERATIONS = (
    *_JOBS,
    *(replace(operation, path=operation.path.removeprefix("/v1")) for operation in _JOBS),
    *_TRANSCRIPTION,
    *_COMPATIBLE,
    *_DEEPGRAM,
    *_REALTIME,
    *_MODELS,
    *_SYSTEM,
)
