"""The operations of the API, as a table from which /openapi.json is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from whisper_server.api.errors import below_v1
from whisper_server.api.openapi.schemas import INTEGER, JSON, TEXT, array_of, object_of, ref
from whisper_server.api.requests import job_submission
from whisper_server.api.requests.openai_form import EXTENSIONS, LISTS, SINGLE
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.api.requests.parsers import Schema
from whisper_server.api.responses import job_result
from whisper_server.api.routes import jobs
from whisper_server.api.streaming.native import STREAM


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: what its status means, and a schema for each media type."""

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


Answers: TypeAlias = Mapping[int, Answer]
Shape: TypeAlias = Callable[[Answers], Answers]


def _errors(**summaries: str) -> dict[int, Answer]:
    """Return error responses by status, given as s400="…"."""
    return {int(name[1:]): Answer(summary, {JSON: ref("Error")}) for name, summary in summaries.items()}


def _as_openai(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    return {status: Answer(answer.summary, {JSON: ref("OpenAIError")}) for status, answer in answers.items()}


# The responses of middleware, which any operation that is not open can get.
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
_SESSION: Schema = {"type": "object", "properties": {"type": {"const": "transcription"}, "audio": {"type": "object"}}}
_EXPIRY = object_of({"seconds": {"type": "integer", "minimum": 10, "maximum": 7200}}, optional=("seconds",))
_MODEL = _errors(s404="there is no such model")
_LATE = _errors(s504="the timeout of the request has passed")
_STATUS = object_of({"status": TEXT})


def guarded(path: str) -> Mapping[int, Answer]:
    """Return the responses of middleware for that path."""
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
                    JSON: ref("OpenAITranscription"),
                    "text/event-stream": TEXT,
                    "text/plain": TEXT,
                    "application/x-subrip": TEXT,
                    "text/vtt": TEXT,
                },
            ),
            **_as_openai({**_UPLOAD, **_MODEL, **_LATE}),
        },
    )


_JOBS_UNAVAILABLE = _errors(
    s503="jobs are not available, or there are too many", s507="there is no space left for jobs"
)
_BAD_QUERY = _errors(s400="the query is invalid")
_JOB = {200: Answer("the job", {JSON: ref("Job")})}
_DELETED_JOB = object_of({"id": TEXT, "object": {"const": "job"}, "deleted": {"type": "boolean"}})
_SUBTITLES = {"text/plain": TEXT, "application/x-subrip": TEXT, "text/vtt": TEXT, "text/tab-separated-values": TEXT}


def _jobs(path: str) -> tuple[Operation, ...]:
    """Return the operations below /v1/jobs or its alias."""
    shaped = _as_openai if below_v1(path) else dict
    absent = shaped({**_errors(s404="there is no such job"), **_JOBS_UNAVAILABLE})
    return (*_all_jobs(path, shaped), *_one_job(path, shaped, absent), *_job_content(path, shaped, absent))


def _all_jobs(path: str, shaped: Shape) -> tuple[Operation, ...]:
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
                202: Answer("the job, or a list of several", {JSON: {"anyOf": [ref("Job"), ref("Jobs")]}}),
                **shaped(
                    {
                        **_UPLOAD,
                        **_MODEL,
                        **_JOBS_UNAVAILABLE,
                        **_errors(s422="the Idempotency-Key belongs to a different request"),
                    }
                ),
            },
        ),
        Operation(
            method="GET",
            path=path,
            summary="A page of jobs.",
            query=jobs.PAGE,
            answers={
                200: Answer("the page", {JSON: ref("Jobs")}),
                **shaped({**_BAD_QUERY, **_JOBS_UNAVAILABLE}),
            },
        ),
    )


def _one_job(path: str, shaped: Shape, absent: Answers) -> tuple[Operation, ...]:
    return (
        Operation(
            method="GET",
            path=f"{path}/{{id}}",
            summary="A job and its progress.",
            parameters=("id",),
            query=jobs.TEXT,
            answers={**_JOB, **absent, **shaped(_BAD_QUERY)},
        ),
        Operation(
            method="DELETE",
            path=f"{path}/{{id}}",
            summary="Remove a job, its result and its audio.",
            parameters=("id",),
            answers={200: Answer("it was removed", {JSON: _DELETED_JOB}), **absent},
        ),
        Operation(
            method="POST",
            path=f"{path}/{{id}}/cancel",
            summary="Cancel a job.",
            parameters=("id",),
            answers={**_JOB, **absent, **shaped(_errors(s409="it is finished"))},
        ),
    )


def _job_content(path: str, shaped: Shape, absent: Answers) -> tuple[Operation, ...]:
    return (
        Operation(
            method="GET",
            path=f"{path}/{{id}}/result",
            summary="The transcript of a job, in any format.",
            parameters=("id",),
            query=job_result.QUERY,
            answers={
                200: Answer("the transcript", {JSON: ref("OpenAITranscription"), **_SUBTITLES}),
                **absent,
                **shaped(_errors(s400="the query is invalid", s409="there is no result")),
            },
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/audio",
            summary="The audio of a job, while it is kept.",
            parameters=("id",),
            answers={200: Answer("the audio", {"application/octet-stream": TEXT}), **absent},
        ),
        Operation(
            method="GET",
            path=f"{path}/{{id}}/events",
            summary="The events of a job, and new ones as they occur.",
            parameters=("id",),
            query=jobs.AFTER,
            answers={
                200: Answer("server-sent events", {"text/event-stream": TEXT}),
                204: Answer("there are no more events"),
                **absent,
                **shaped(_BAD_QUERY),
            },
        ),
    )


OPERATIONS = (
    *_jobs("/v1/jobs"),
    *_jobs("/jobs"),
    Operation(
        method="POST",
        path="/recognise",
        summary="Transcribe an audio or video file.",
        file=True,
        fields=(*DECODING, *RENDERING, *EXECUTION),
        answers={
            200: Answer(
                "the transcript",
                {
                    JSON: object_of({"transcription": ref("Transcription")}),
                    "text/plain": TEXT,
                    "application/x-subrip": TEXT,
                    "text/vtt": TEXT,
                    "text/tab-separated-values": TEXT,
                },
            ),
            **_UPLOAD,
            **_LATE,
        },
    ),
    Operation(
        method="POST",
        path="/reload",
        summary="Load another model and serve it if it works.",
        body={"type": "object", "properties": {"model_name": {"type": "string", "default": "medium"}}},
        answers={
            200: Answer("it is served", {JSON: object_of({"message": TEXT})}),
            **_UPLOAD,
            **_MODEL,
        },
    ),
    Operation(
        method="POST",
        path="/unload",
        summary="Free a model's weights until the next request.",
        body={"type": "object", "properties": {"model_name": {"type": "string"}}},
        answers={
            200: Answer("they are freed", {JSON: object_of({"message": TEXT})}),
            202: Answer("they are freed after the requests that use them", {JSON: object_of({"message": TEXT})}),
            **_errors(s400="the body names no model", s404="there is no such model", s413="the body is too large"),
        },
    ),
    _openai_audio("/v1/audio/transcriptions", "Transcribe a file, with OpenAI's API."),
    _openai_audio("/v1/audio/translations", "Translate a file to English, with OpenAI's API."),
    Operation(
        method="POST",
        path="/v1/stream",
        summary="Transcribe audio while it is being sent (PUT does the same; WebSockets: docs/live-protocols.md).",
        query=STREAM,
        audio=True,
        answers={
            200: Answer("events, while the audio arrives", {"application/x-ndjson": TEXT, "text/event-stream": TEXT}),
            **_as_openai({**_LIVE, **_MODEL}),
        },
    ),
    Operation(
        method="POST",
        path="/v1/realtime/client_secrets",
        summary="Create a short-lived key for /v1/realtime, with the configuration of its session.",
        body=object_of({"session": _SESSION, "expires_after": _EXPIRY}, optional=("session", "expires_after")),
        answers={
            200: Answer(
                "the key", {JSON: object_of({"value": TEXT, "expires_at": INTEGER, "session": {"type": "object"}})}
            ),
            **_as_openai({**_SMALL, **_MODEL}),
        },
    ),
    Operation(
        method="POST",
        path="/v1/realtime/transcription_sessions",
        summary="The same with OpenAI's beta API.",
        body={"type": "object"},
        answers={
            200: Answer("the session with its key", {JSON: object_of({"client_secret": {"type": "object"}})}),
            **_as_openai({**_SMALL, **_MODEL}),
        },
    ),
    Operation(
        method="GET",
        path="/v1/models",
        summary="The loaded models.",
        answers={
            200: Answer("the models", {JSON: object_of({"object": {"const": "list"}, "data": array_of(ref("Model"))})})
        },
    ),
    Operation(
        method="GET",
        path="/v1/models/{id}",
        summary="A loaded model.",
        parameters=("id",),
        answers={200: Answer("the model", {JSON: ref("Model")}), **_as_openai(_MODEL)},
    ),
    Operation(
        method="DELETE",
        path="/v1/models/{id}",
        summary="Unload a model that was loaded on demand.",
        parameters=("id",),
        answers={
            200: Answer(
                "it was removed",
                {JSON: object_of({"id": TEXT, "object": {"const": "model"}, "deleted": {"type": "boolean"}})},
            ),
            **_as_openai({**_MODEL, **_errors(s409="it is the served model")}),
        },
    ),
    Operation(
        method="GET",
        path="/health",
        summary="Whether the process runs.",
        answers={200: Answer("it does", {JSON: _STATUS})},
        open=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        summary="Whether requests are served.",
        answers={
            200: Answer("it does", {JSON: object_of({"status": TEXT, "loading": TEXT}, optional=("loading",))}),
            503: Answer("they are not", {JSON: object_of({"status": TEXT, "error": TEXT})}),
        },
        open=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus.",
        answers={200: Answer("the metrics", {"text/plain": TEXT})},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        summary="This description.",
        answers={200: Answer("OpenAPI 3.1", {JSON: {"type": "object"}})},
    ),
)
